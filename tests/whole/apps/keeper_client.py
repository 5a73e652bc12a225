"""Uses the keeper: `load PORT` puts items and says which were acknowledged, `check PORT ACKS` asks for all of them."""

import json
import socket
import sys
import time
from pathlib import Path


def ask(port: int, text: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 2) as peer, peer.makefile("rw") as line:
        line.write(text + "\n")
        line.flush()
        return line.readline().strip()


def load(port: int) -> None:
    for number in range(1, 9):
        try:
            if ask(port, f"item-{number}") == "ok":
                print(f"ack item-{number}", flush=True)
        except OSError:
            time.sleep(0.05)
        time.sleep(0.02)


def check(port: int, acks: str) -> None:
    there = set(json.loads(ask(port, "LIST")))
    lost = [one for one in Path(acks).read_text().split() if one != "ack" and one not in there]
    if lost:
        sys.exit(f"{len(lost)} acknowledged items are lost")


if sys.argv[1] == "load":
    load(int(sys.argv[2]))
else:
    check(int(sys.argv[2]), sys.argv[3])
