"""Asks a line server over and over: `asker ADDRESS COUNT`. Prints `ack N` for each answer, and gives up on none."""

import socket
import sys
import time

host, _, port = sys.argv[1].rpartition(":")
number = 0
while number < int(sys.argv[2]):
    try:
        with socket.create_connection((host, int(port)), 5) as peer, peer.makefile("rw") as line:
            line.write(f"item-{number}\n")
            line.flush()
            if line.readline() == "ok\n":
                print(f"ack {number}", flush=True)
                number += 1
    except OSError:
        time.sleep(0.05)
    time.sleep(0.02)
