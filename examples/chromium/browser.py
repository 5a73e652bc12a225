"""Become a Chromium without a window, with a profile of its own, which shows one page.

    python browser.py STATE 9222 http://127.0.0.1:8000/page.html

DevTools listen on the port, which is how the workload and the check use the page.
"""

import os
import shutil
import sys

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> None:
    state, port, url = sys.argv[1:]
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), "chromium")
    # Its sandbox refuses root. The one page that it shows is ours.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    os.execvp(
        program,
        [
            program,
            "--headless",
            *as_root,
            f"--user-data-dir={state}/profile",
            f"--remote-debugging-port={port}",
            "--no-first-run",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            url,
        ],
    )


if __name__ == "__main__":
    main()
