"""A workload for notes.py: post notes one after the other, and say `ack ID` for each that was answered with 200.

    post.py PORT

A note without a clear answer is never posted again: the next one has a new id.
"""

import itertools
import signal
import socket
import sys
import time

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for number in itertools.count(1):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=1) as server:
            server.settimeout(1)
            server.sendall(b"POST /n%d HTTP/1.0\r\n\r\n" % number)
            if b" 200 " in server.recv(100):
                print(f"ack n{number}", flush=True)
    except OSError:
        pass
    time.sleep(0.02)
