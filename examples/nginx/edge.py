"""Start nginx with one of the two configurations, once its ports and its directory are filled in.

    python edge.py prompt.conf STATE 8000 127.0.0.1:8001 127.0.0.1:8002

nginx takes the place of this process, so that croupier supervises nginx itself.
"""

import os
import sys
from pathlib import Path
from string import Template


def main() -> None:
    template, state, port, one, two = sys.argv[1:]
    common = Template(Path("common.conf").read_text())
    upstreams = Template(Path(template).read_text())
    conf = Path(state) / "nginx.conf"
    conf.write_text(common.substitute(edge=upstreams.substitute(port=port, one=one, two=two)))
    # A path to it, since some keep it where an ordinary user's PATH does not lead.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    os.execvpe("nginx", ["nginx", "-e", "stderr", "-p", state, "-c", str(conf)], {**os.environ, "PATH": path})


if __name__ == "__main__":
    main()
