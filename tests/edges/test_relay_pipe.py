"""A named pipe with the proxy in it: both sides see what they would see without it, unless a rule says otherwise."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hands import eventually, identity
from proxied import Proxied, a_proxy

from croupier.system import relay

READER = """
import hashlib, sys
with open(sys.argv[1], "rb") as file: data = file.read()
print(len(data), hashlib.sha256(data).hexdigest(), flush=True)
"""
LINES = """
import sys
with open(sys.argv[1], "rb", buffering=0) as file:
    while line := file.readline(): print(line.decode("latin-1").strip(), flush=True)
print("end", flush=True)
"""


class Pipe:
    """The two named pipes, and who is at their ends."""

    def __init__(self, folder: Path) -> None:
        self.real, self.front = folder / "real", folder / "front"
        os.mkfifo(self.real)
        os.mkfifo(self.front)
        self._started: list[subprocess.Popen[str]] = []

    def reader(self, program: str = LINES) -> subprocess.Popen[str]:
        argv = [sys.executable, "-S", "-c", program, str(self.real)]
        self._started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        return self._started[-1]

    def close(self) -> None:
        for one in self._started:
            one.kill()
            one.communicate()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    one = Pipe(tmp_path)
    yield one
    one.close()


@pytest.fixture
def proxy(pipe: Pipe) -> Iterator[Proxied]:
    with a_proxy(f"pipe:{pipe.real}", path=pipe.front) as one:
        yield one


def line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()


def is_told_that_nobody_reads(file: IO[bytes]) -> bool:
    for _ in range(200):
        try:
            file.write(b"two\n")
        except BrokenPipeError:
            return True
        time.sleep(0.01)
    return False


def test_what_is_written_is_read_and_so_is_its_end(pipe: Pipe, proxy: Proxied) -> None:
    for size in (0, 1, 3 << 20):
        data = random.Random(size).randbytes(size)
        reader = pipe.reader(READER)
        with pipe.front.open("wb") as file:
            file.write(data)
        assert line(reader) == f"{size} {hashlib.sha256(data).hexdigest()}"
        assert reader.wait(10) == 0


def test_a_reader_that_goes_on_sees_one_stretch_after_the_other(pipe: Pipe, proxy: Proxied) -> None:
    for text in ("one", "two", "three"):
        reader = pipe.reader()
        with pipe.front.open("w") as file:
            print(text, file=file)
        assert (line(reader), line(reader)) == (text, "end")


def test_who_writes_waits_for_a_reader(pipe: Pipe, proxy: Proxied) -> None:
    opened = threading.Event()

    def write() -> None:
        with pipe.front.open("w") as file:
            opened.set()
            print("one", file=file)

    writer = threading.Thread(target=write)
    writer.start()
    assert not opened.wait(0.2)
    assert line(pipe.reader()) == "one"
    assert opened.is_set()
    writer.join()


def test_who_writes_to_nobody_is_told_and_the_next_reader_is_served(pipe: Pipe, proxy: Proxied) -> None:
    reader = pipe.reader()
    with pipe.front.open("wb", buffering=0) as file:
        file.write(b"one\n")
        assert line(reader) == "one"
        reader.kill()
        reader.wait()
        assert is_told_that_nobody_reads(file)
    again = pipe.reader()
    with pipe.front.open("w") as file:
        print("three", file=file)
    assert (line(again), line(again)) == ("three", "end")


def test_a_rule_changes_what_goes_through_for_as_long_as_it_is_in_force(pipe: Pipe, proxy: Proxied) -> None:
    reader = pipe.reader()
    with pipe.front.open("wb", buffering=0) as file:
        file.write(b"plain\n")
        assert line(reader) == "plain"
        who = identity(reader.pid)
        key = proxy.rule(mutations=("repeat",), tops=((who.pid, who.started),))
        file.write(b"number 17\n")
        changed = line(reader)
        assert changed != "number 17"
        assert proxy.hits(key) == 1
        proxy.lift(key)
        file.write(b"\nplain\n")
        assert eventually(lambda: line(reader) == "plain")


def test_whose_pipe_it_is_is_known_of_both_ends(pipe: Pipe, proxy: Proxied) -> None:
    reader = pipe.reader()
    writes = "import sys, time\nfile = open(sys.argv[1], 'wb', 0)\nwhile True: file.write(b'x\\n'); time.sleep(0.01)"
    writer = subprocess.Popen([sys.executable, "-S", "-c", writes, str(pipe.front)])
    try:
        assert line(reader) == "x"
        for who, hurt in ((writer.pid, True), (reader.pid, True), (os.getpid(), False)):
            found = identity(who)
            # Everybody here is below this process: itself alone has to be somebody else.
            tops = ((found.pid, found.started if hurt else found.started - 1),)
            key = proxy.rule(latency_us=1_000, tops=tops)
            assert eventually(lambda key=key: proxy.hits(key), 2 if hurt else 0.3) == hurt
            proxy.lift(key)
    finally:
        writer.kill()
        writer.wait()


def test_a_link_that_is_cut_ends_on_both_sides(pipe: Pipe, proxy: Proxied) -> None:
    reader = pipe.reader()
    with pipe.front.open("wb", buffering=0) as file:
        file.write(b"one\n")
        assert line(reader) == "one"
        proxy.rule(cut="reset")
        assert is_told_that_nobody_reads(file)
    assert eventually(lambda: line(reader) == "end")
    assert relay.ask(proxy.where) is not None
