"""A small HTTP app that leans on another: it asks the other all the time, and lives without an answer.

    front.py PORT HOST:PORT

GET gives 200, and what is known of the other. An answer that takes longer than half a second is none.
"""

import socket
import socketserver
import sys
import threading
import time

host, _, port = sys.argv[2].rpartition(":")
known = b"nothing"


def ask():
    global known
    while True:
        try:
            with socket.create_connection((host, int(port)), 0.5) as other:
                other.settimeout(0.5)
                other.sendall(b"GET / HTTP/1.0\r\n\r\n")
                known = b"it is there" if other.recv(100).startswith(b"HTTP/") else b"it broke off"
        except OSError:
            known = b"it is away"
        time.sleep(0.05)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + known)


socketserver.ThreadingTCPServer.allow_reuse_address = True
threading.Thread(target=ask, daemon=True).start()
with socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    server.serve_forever()
