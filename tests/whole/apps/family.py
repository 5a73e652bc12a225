"""A program with a child, and a daemon that left its session: everybody must be gone when the round is.

    family.py [--deaf]

Each writes its pid and start time into $CROUPIER_STATE/pids. With --deaf nobody listens to TERM, INT or HUP. The
child ends with its parent's end being nothing to it: only a supervisor that looks after trees finds it.
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH118, PTH123

import os
import signal
import sys
import time


def write_down():
    with open("/proc/self/stat") as stat:
        started = stat.read().rpartition(")")[2].split()[19]
    line = f"{os.getpid()} {started}\n".encode()
    file = os.open(os.path.join(os.environ["CROUPIER_STATE"], "pids"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line)
    os.close(file)


def main():
    if "--deaf" in sys.argv:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
    write_down()
    if os.fork() == 0:
        write_down()
        sleep()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        write_down()
        sleep()
    os.wait()
    while counted() < 3:
        time.sleep(0.005)
    print("ready", flush=True)
    sleep()


def counted():
    with open(os.path.join(os.environ["CROUPIER_STATE"], "pids")) as file:
        return len(file.read().splitlines())


def sleep():
    while True:
        time.sleep(300)


main()
