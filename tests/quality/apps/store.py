"""A small store of numbered entries behind a Unix datagram socket, fragile or sturdy in one way at a time.

    store.py STATE WAY

Each request is an id; the answer is `ok`. Every way names where it differs:

  early       answers before the entry is on disk                     (early: fragile, late: sturdy)
  inplace     rewrites its whole file in place; renamed: aside first
  append      a request that comes twice is kept twice; keyed: once
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH108, PTH104, PTH123

import contextlib
import json
import os
import socket
import sys
import time

# The path of a socket may have 107 bytes only.
os.chdir(sys.argv[1])
way = sys.argv[2]
path = "entries.json"


def load():
    try:
        with open(path) as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return []


def write(where, entries):
    with open(where, "w") as file:
        text = json.dumps(entries)
        for at in range(0, len(text), 64):
            file.write(text[at : at + 64])
            file.flush()
            time.sleep(0.0005)  # a slow disk; enough for a kill to come between
        file.flush()
        os.fsync(file.fileno())


def save(entries):
    if way == "inplace":
        write(path, entries)
        return
    aside = path + ".new"
    write(aside, entries)
    os.rename(aside, path)


def main():
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("line")
    line.bind("line")
    print("ready", flush=True)
    entries = load()
    while True:
        asked, client = line.recvfrom(100)
        entry = asked.decode()
        if way == "early":
            answer(line, client)
        if way == "append" or entry not in entries:
            entries.append(entry)
            save(entries)
        if way == "append" or way == "keyed":
            time.sleep(0.02)  # kept, and not answered yet: whoever asks again is asking twice
        if way != "early":
            answer(line, client)


def answer(line, client):
    with contextlib.suppress(OSError):
        line.sendto(b"ok", client)


main()
