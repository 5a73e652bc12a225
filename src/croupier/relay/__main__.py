"""The command line of the proxy."""

from __future__ import annotations

import resource
import signal
import sys

from ..model.link import address
from .server import Relay


def main() -> None:
    """Carry until killed."""
    control, listen, to = sys.argv[1:4]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each connection takes two files of ours.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    try:
        relay = Relay(control, address(listen), address(to))
    except (OSError, ValueError) as problem:
        sys.exit(f"the proxy cannot listen on {listen}: {problem}")
    relay.serve()


if __name__ == "__main__":
    main()
