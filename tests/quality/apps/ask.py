"""The client of store.py: sends one id after the other, each until it is answered, and says `ack ID` then.

ask.py STATE
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH108

import contextlib
import itertools
import os
import signal
import socket
import sys
import time

# The path of a socket may have 107 bytes only.
os.chdir(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
with contextlib.suppress(FileNotFoundError):
    os.unlink("client")
line.bind("client")
line.settimeout(0.3)


def is_kept(entry):
    try:
        line.sendto(entry, "line")
        return line.recv(10) == b"ok"
    except OSError:
        time.sleep(0.02)
        return False


for number in itertools.count(1):
    while not is_kept(b"entry-%d" % number):
        pass
    print(f"ack entry-{number}", flush=True)
    time.sleep(0.01)
