"""A small HTTP app that leans on others: it asks each all the time, and lives without an answer.

    front.py [HOST:]PORT HOST:PORT...

GET gives 200, and what is known of them. An answer that takes longer than half a second is none.
"""

import socket
import socketserver
import sys
import threading
import time

known = {}


def ask(address):
    host, _, port = address.rpartition(":")
    while True:
        try:
            with socket.create_connection((host, int(port)), 0.5) as other:
                other.settimeout(0.5)
                other.sendall(b"GET / HTTP/1.0\r\n\r\n")
                known[address] = b"it is there" if other.recv(100).startswith(b"HTTP/") else b"it broke off"
        except OSError:
            known[address] = b"it is away"
        time.sleep(0.05)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b", ".join(list(known.values())))


socketserver.ThreadingTCPServer.allow_reuse_address = True
for one in sys.argv[2:]:
    threading.Thread(target=ask, args=(one,), daemon=True).start()
host, _, port = sys.argv[1].rpartition(":")
with socketserver.ThreadingTCPServer((host or "127.0.0.1", int(port)), Handler) as server:
    server.serve_forever()
