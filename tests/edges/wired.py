"""A network of a test's own, with processes in it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hands import identity

from croupier.arrange.subnet import ARRANGER
from croupier.model.arrangement import Subnet
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord
from croupier.model.wiring import Home, Wiring
from croupier.system import control, networks, procs
from croupier.system.clock import now_us

may_wire = pytest.mark.skipif(bool(networks.lacking()), reason=networks.lacking() or "networks can be made")


class Hands:
    """Hands of an arranger without a round: records in memory, helpers as children of the test."""

    def __init__(self, path: Path) -> None:
        self.env: Mapping[str, str] = {**os.environ, networks.VARIABLE: str(networks.folder(str(path)))}
        self.folder = str(path)
        self.deadline_us = now_us() + 60_000_000
        self.keeper = identity(os.getpid())
        self.records: dict[str, UndoRecord] = {}
        self.done: list[str] = []
        self.started: list[subprocess.Popen[bytes]] = []

    def intend(self, record: UndoRecord) -> None:
        self.records[record.key] = record

    def applied(self, key: str) -> None:
        assert key in self.records
        self.done.append(key)

    def start(self, name: str, argv: Sequence[str]) -> Identity:
        assert self.records, "a helper was started, and nothing was written down"
        process = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL)
        self.started.append(process)
        threading.Thread(target=process.wait, daemon=True).start()
        return identity(process.pid)


class Net:
    """What is set up, and how to live in it."""

    def __init__(self, hands: Hands, wiring: Wiring, stack: ExitStack) -> None:
        self.env = hands.env
        self.wiring = wiring
        self._stack = stack

    def home(self, name: str) -> Home:
        found = self.wiring.home(name)
        assert found is not None
        return found

    def address(self, name: str) -> str:
        return self.home(name).address

    def popen(self, name: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process at somebody's home; it is ended with the network. When this returns it lives there."""
        door = networks.path_of(self.home(name).keeper)
        child = subprocess.Popen(
            ["nsenter", f"--net={door}", "--", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

        def end() -> None:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                assert stream is not None
                stream.close()

        self._stack.callback(end)
        while networks.inode(f"/proc/{child.pid}/ns/net") == networks.inode("/proc/self/ns/net"):
            assert child.poll() is None
        return child

    def settled(self, name: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """The same, for one who sees what whoever lives there is to see."""
        where = networks.place(self.env, self.wiring.name, name)
        seen = [word for path, other in where.files.items() for word in (other, path)]
        script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@"'
        return self.popen(name, ["unshare", "--mount", "--", "sh", "-c", script, "sh", *seen, "--", *argv])

    def start(self, name: str, argv: Sequence[str], ready: bytes = b"") -> Identity:
        child = self.popen(name, argv)
        if ready:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == ready
        return identity(child.pid)

    def hub(self, *argv: str) -> str:
        """What a program says in the hub."""
        return networks.run(self.wiring.hub.keeper, argv)


@contextmanager
def a_network(path: Path, *who: str, names: dict[str, str] | None = None, run: str = "") -> Iterator[Net]:
    """A network in which these live, taken down at the end; with `names`, one with a resolver."""
    hands = Hands(path)
    hands.env = {**hands.env, control.RUN: run}
    spec = Subnet(names=names).joined(7, who)
    with ExitStack() as stack:
        stack.callback(lambda: [ARRANGER.heal(one) for one in hands.records.values()])
        ARRANGER.set_up("lan", spec, spec.range, hands)
        (wiring,) = networks.wirings(hands.env)
        yield Net(hands, wiring, stack)
    assert not any(procs.alive(one.keeper) for one in (wiring.hub, *wiring.homes))
