"""Whom the faults of the table are tried on: a process that does little, and ends with whoever started it.

With the directory of a trial as argument it answers on `real.sock` there, and asks itself by `front.sock`.
"""

from __future__ import annotations

import socket
import sys
import threading
import time


def answer(peer: socket.socket) -> None:
    """Send everything back."""
    try:
        while data := peer.recv(4_096):
            peer.sendall(data)
    except OSError:
        return


def listen(door: socket.socket) -> None:
    """Take everybody who comes."""
    while True:
        threading.Thread(target=answer, args=(door.accept()[0],), daemon=True).start()


def ask(path: str) -> None:
    """Ask, and ask again; a connection that is hurt, or not there, is made anew."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(1)
                line.connect(path)
                while True:
                    line.sendall(b"ping-ping")
                    line.recv(100)
                    time.sleep(0.01)
        except OSError:
            time.sleep(0.02)


if len(sys.argv) > 1:
    door = socket.socket(socket.AF_UNIX)
    door.bind(f"{sys.argv[1]}/real.sock")
    door.listen()
    for work, given in ((listen, door), (ask, f"{sys.argv[1]}/front.sock")):
        threading.Thread(target=work, args=(given,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
