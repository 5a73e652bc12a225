"""A small HTTP app: POST /ID keeps a note in a file and answers when it is on disk; GET / lists them; /health is fine.

notes.py PORT FILE
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH110, PTH123

import os
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        method, path, _ = [*self.rfile.readline().decode().split(), "", "", ""][:3]
        while self.rfile.readline().strip():
            pass
        body = b""
        if method == "POST":
            with open(sys.argv[2], "a") as file:
                file.write(path[1:] + "\n")
                file.flush()
                os.fsync(file.fileno())
        elif path == "/" and os.path.exists(sys.argv[2]):
            with open(sys.argv[2], "rb") as file:
                body = file.read()
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
