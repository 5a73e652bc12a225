"""A supervised program with every way of saying that it is ready, or alive.

    server.py WHAT [PORT]

WHAT is a list, joined by commas:
  http, tcp            listen on PORT
  says                 print "all systems go" after a tenth of a second
  touches              make $CROUPIER_STATE/ready after a tenth of a second
  beats                touch (or send to, where it is a socket) $CROUPIER_HEARTBEAT ten times a second
  hangs                stop beating, and answering, once $CROUPIER_STATE/hang is there: it is removed by that
  exits=N              end with code N once $CROUPIER_STATE/exit is there: it is removed by that
  dies=N               end with code N at once
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH108, PTH116, PTH118, PTH123

import os
import select
import socket
import stat
import sys
import time

STATE = os.environ["CROUPIER_STATE"]
BEAT = os.environ.get("CROUPIER_HEARTBEAT", "")
what = dict([*one.split("="), ""][:2] for one in sys.argv[1].split(","))


def taken(name):
    """Whether somebody put this file there; it is taken away, so that it works once."""
    try:
        os.unlink(os.path.join(STATE, name))
        return True
    except FileNotFoundError:
        return False


def beat():
    try:
        is_socket = stat.S_ISSOCK(os.stat(BEAT).st_mode)
    except FileNotFoundError:
        is_socket = False
    if not is_socket:
        with open(BEAT, "a"):
            os.utime(BEAT)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(BEAT)
        line.send(b"alive")


def main():
    if "dies" in what:
        sys.exit(int(what["dies"]))
    listening = []
    if "http" in what or "tcp" in what:
        listening.append(socket.create_server(("127.0.0.1", int(sys.argv[2]))))
    time.sleep(0.1)
    if "says" in what:
        print("all systems go", flush=True)
    if "touches" in what:
        open(os.path.join(STATE, "ready"), "w").close()
    while True:
        if "beats" in what:
            beat()
        for one in select.select(listening, [], [], 0.05)[0]:
            client, _ = one.accept()
            if "http" in what:
                client.recv(1000)
                client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            client.close()
        if "hangs" in what and taken("hang"):
            time.sleep(300)
        if "exits" in what and taken("exit"):
            sys.exit(int(what["exits"]))


main()
