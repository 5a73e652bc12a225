"""A program that forks away: its command ends at once with 0, and a daemon in a session of its own stays.

    daemon.py [PORT]

The daemon listens on the port, where one is given, and writes its pid into $CROUPIER_STATE/daemon.pid.
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH118, PTH123

import os
import signal
import socket
import sys


def main():
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    if len(sys.argv) > 1:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", int(sys.argv[1])))
        listening.listen()
    with open(os.path.join(os.environ["CROUPIER_STATE"], "daemon.pid"), "w") as file:
        file.write(str(os.getpid()))
    while True:
        signal.pause()


main()
