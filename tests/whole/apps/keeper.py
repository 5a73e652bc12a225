"""A server that keeps lines: it answers `ok` once one is saved, and `LIST` with all that it has.

With `--safe` the file is written aside and takes the place of the old one; without, it is emptied first.
"""

import json
import socket
import sys
from pathlib import Path

host, _, port = sys.argv[1].rpartition(":")
file, safe = Path(sys.argv[2]), "--safe" in sys.argv
try:
    lines = json.loads(file.read_text())
except (OSError, ValueError):
    lines = []


def save() -> None:
    if not safe:
        with file.open("w") as out:
            json.dump(lines, out)
        return
    file.with_suffix(".tmp").write_text(json.dumps(lines))
    file.with_suffix(".tmp").replace(file)


server = socket.create_server((host or "127.0.0.1", int(port)))
while True:
    peer, _ = server.accept()
    with peer, peer.makefile("rw") as line:
        text = line.readline().strip()
        if text and text != "LIST":
            lines.append(text)
            save()
        line.write("ok\n" if text != "LIST" else json.dumps(lines) + "\n")
