"""A main process with two workers, fragile or sturdy in one way at a time.

    workers.py STATE WAY

  alone       a worker that dies is not replaced          replaced     it is, at once
  slow        a worker that dies is replaced after 3 s
  stale       two workers take turns by a lease file, and one whose lease ran out while it stood still goes on
              writing when it wakes: two write at once     fenced       it looks again before it writes

The workers of `stale` and `fenced` write `<worker> <turn>` into the file `written`; a turn belongs to one of them.
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH118

import fcntl
import os
import signal
import sys
import time

state, way = sys.argv[1], sys.argv[2]
LEASE_S = 0.15


def worker(number):
    while way not in ("stale", "fenced"):
        time.sleep(300)
    while True:
        turn = take_turn()
        if turn:
            time.sleep(0.05)  # at work; long enough to be stopped in the middle
            if way == "stale" or still_mine(turn):
                note(turn)
        time.sleep(0.005)


def lease(change):
    """Read and change the lease under a lock, which the kernel opens when its holder dies."""
    file = os.open(os.path.join(state, "lease"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    turn, owner, until = [*os.pread(file, 100, 0).decode().split(), "0", "0", "0"][:3]
    answer, new = change(int(turn), int(owner), float(until))
    if new:
        os.pwrite(file, b"%-60s" % " ".join(map(str, new)).encode(), 0)
    os.close(file)
    return answer


def take_turn():
    def change(turn, owner, until):
        if time.monotonic() < until:
            return 0, None
        return turn + 1, (turn + 1, os.getpid(), time.monotonic() + LEASE_S)

    return lease(change)


def still_mine(turn):
    return lease(lambda now, owner, until: (now == turn and owner == os.getpid(), None))


def note(turn):
    """Write the turn down: an old one after a newer one is the fault."""
    file = os.open(os.path.join(state, "written"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b"%d\n" % turn)
    os.close(file)


def main():
    pids = set()
    owed = [0.0, 0.0]
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        while owed and owed[0] <= time.monotonic():
            owed.pop(0)
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                worker(len(pids))
            pids.add(pid)
        time.sleep(0.02)
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            pids.discard(pid)
            if way == "slow":
                owed.append(time.monotonic() + 3)
            elif way != "alone":
                owed.append(0.0)


print("ready", flush=True)
main()
