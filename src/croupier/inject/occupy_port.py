"""Occupy_port: a helper of ours has the port, or the path of a Unix socket, that somebody else wants to bind.

When the helper is gone the kernel gives the port back by itself, so that the record holds little more than the mark by
which the helper is found. A path is a file besides: the helper binds a name of its own beside it, whose inode is in the
record before it is linked to the path, so that nobody else's socket is ever taken away. Landed is what the helper has,
and another bind was refused.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.ports import OccupyPort
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs, sockets
from ..system.clock import now_us
from . import Act, Outcome, helpers, together, too_late

_BEGINS_WITHIN_MS = 5_000
_SEEN_WITHIN_MS = 5_000
_FREE_WITHIN_S = 2
"""So soon after its owner was ended a port is free."""
_LONGEST_PATH = 90
"""Of the 107 bytes that the kernel allows (unix(7)), with room for the name of our own."""
_HELPER = """
import socket, sys, time
kind, host, port, listens, within, lasts = sys.argv[1:]
family = socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if ":" in host else socket.AF_INET
def say(word):
    with open("/proc/self/comm", "w") as file: file.write(word)
say("trying")
end = time.monotonic() + float(within)
while True:
    one = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    try:
        if kind == "tcp" and listens == "yes": one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(host if kind == "unix" else (host, int(port)))
        if kind != "udp" and listens == "yes": one.listen(128)
        break
    except OSError as problem:
        one.close()
        if time.monotonic() >= end: sys.exit(str(problem))
        time.sleep(0.0005)
say("has it")
time.sleep(float(lasts))
"""


class OccupyPortInjector:
    """Carries out `occupy_port`."""

    kind = "occupy_port"
    spec: type[Fault] = OccupyPort
    summary = "Take a port of the loopback, or the path of a Unix socket: whoever binds it is refused."
    needs = "Linux, to see who has it."
    heals = "The helper that has it is ended, and seen to be gone; a path that it made is taken away."
    example = 'occupy_port: {port: "${port.app}", kill: true, for: 3s}'

    def lacking(self, fault: OccupyPort) -> str:
        """Whether the options belong together, and whether it can be seen who has what."""
        if bool(fault.port) == bool(fault.path):
            return "give either port or path"
        if fault.path and fault.kill:
            return "a path stays when its process is killed, so that nobody can take it then: leave out `kill`"
        return "" if procs.HAS_PROC else f"{sys.platform} has no /proc to see who has a port"

    def inject(self, permit: Permit, fault: OccupyPort, act: Act) -> Outcome:
        """Take it once, for the first target; landed when the helper has it, and another bind was refused."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_occupy(permit.targets[0], fault, act)], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: OccupyPort, act: Act) -> None:
        """The helper has it."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the helper, and take away the path that is ours; who has the port then is only looked at."""
        left = helpers.end(record)
        if left:
            return Healing(verified=False, note=f"whoever has it is still alive: {', '.join(map(str, left))}")
        try:
            _take_away(record.data)
        except OSError as problem:
            return Healing(verified=False, note=f"{record.data['path']} could not be taken away: {problem.strerror}")
        notes = [] if procs.alive(record.who) else [f"{record.who} is gone"]
        if record.data["port"] and sockets.holders(record.data["protocol"], record.data["port"]):
            notes.append(f"port {record.data['port']} has been taken by somebody else since")
        return Healing(verified=True, note="; ".join(notes))


def _occupy(target: Seen, fault: OccupyPort, act: Act) -> Outcome:
    if late := too_late(target, act, "its port could be taken (`kill: true` ends it and takes it in one)"):
        return late
    spot = _Spot(fault, act.cwd)
    if spot.wrong:
        return Outcome(result="missed", detail=f"{target}: {spot.wrong}")
    is_targets = spot.is_had_by(target.pid)
    if is_targets and not (fault.kill or fault.busy_ms):
        detail = f"{target}: it has {spot} itself: end it first (`kill: true`), or wait for that (`within`)"
        return Outcome(result="missed", detail=detail)
    key = act.key(target)
    record = UndoRecord(
        key=key, fault=fault.kind, who=target.identity,
        data={**helpers.marked(act.env, key), **spot.data(f"{target.pid}-{key}")},
        deadline_us=helpers.deadline_us(fault.busy_ms + fault.for_ms),
    )  # fmt: skip
    act.intend(record)
    try:
        helper = helpers.start(record, spot.command(record, freed=fault.kill and is_targets), act)
    except TargetError as problem:
        return Outcome(result="unsure", detail=f"{target}: {spot} could not be asked for: {problem.message}")
    act.wait(_BEGINS_WITHIN_MS, lambda: not procs.alive(helper) or helpers.says(helper) in ("trying", "has it"))
    if fault.kill and is_targets and not _end(target, act):
        return Outcome(result="missed", detail=f"{target}: it ended by itself, or the round was halted first")
    act.wait(fault.busy_ms + _SEEN_WITHIN_MS, lambda: helpers.says(helper) in ("", "has it"))
    if not procs.alive(helper):
        return Outcome(result="missed", detail=f"{target}: {spot} could not be taken: somebody has it")
    if not procs.alive(target.identity) and not is_targets:
        return Outcome(result="missed", detail=f"{target}: it ended by itself as {spot} was taken")
    # From now on, however long it was tried.
    record = msgspec.structs.replace(helpers.naming(record, helper), deadline_us=helpers.deadline_us(fault.for_ms))
    if helpers.says(helper) != "has it" or not spot.show(record, act) or not spot.is_refused():
        return Outcome(result="unsure", detail=f"{target}: {spot} was not seen to be taken")
    ended = ", and the target was ended for it" if fault.kill and is_targets else ""
    return Outcome(result="landed", detail=f"{target}: {spot} is taken{ended}; another bind was refused")


def _end(target: Seen, act: Act) -> bool:
    below = [one.identity for one in act.below(target).free]
    reached = act.signal(target.identity, "KILL")
    for one in below:
        act.signal(one, "KILL")
    return reached


class _Spot:
    """What is to be taken: a port at an address, or a path."""

    def __init__(self, fault: OccupyPort, cwd: str) -> None:
        self._fault = fault
        self._path = str(Path(cwd, fault.path)) if fault.path else ""
        text = str(fault.port)
        self._port = int(text) if text.isascii() and text.isdigit() else 0
        self.wrong = self._trouble()

    def __str__(self) -> str:
        return self._path or f"port {self._port} ({self._fault.protocol}, {self._fault.host})"

    def _trouble(self) -> str:
        """Why it cannot be taken from the start, in a few words; "" if it may."""
        if not self._path:
            return "" if 0 < self._port < 1 << 16 else f"{self._fault.port!r} is no number of a port"
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            return f"{self._path} is longer than {_LONGEST_PATH} bytes"
        if os.path.lexists(self._path):
            return f"there is something at {self._path} already"
        return "" if os.access(Path(self._path).parent, os.W_OK) else f"nothing may be made at {self._path}"

    def is_had_by(self, pid: int) -> bool:
        """Whether a process, or anybody below it, has the port now."""
        if self._path:
            return False
        found = sockets.holders(self._fault.protocol, self._port)
        return bool(found and found & sockets.inodes([pid, *procs.tree(pid)]))

    def data(self, unique: str) -> dict[str, Any]:
        """What has to be known of it to give it back."""
        own = str(Path(self._path).with_name(f".croupier-{unique}")) if self._path else ""
        return {"port": self._port, "protocol": self._fault.protocol, "path": self._path, "own": own, "made": []}

    def command(self, record: UndoRecord, *, freed: bool) -> list[str]:
        """The command of the helper; `freed` if the owner is about to be ended.

        It ends by itself a little after the fault's time, should nobody end it.
        """
        fault = self._fault
        return [
            sys.executable, "-S", "-c", _HELPER, "unix" if self._path else fault.protocol,
            record.data["own"] or fault.host, str(self._port), "yes" if fault.listen else "no",
            f"{fault.busy_ms / 1_000 + (_FREE_WITHIN_S if freed else 0):g}",
            f"{(fault.busy_ms + int(fault.for_ms)) / 1_000 + 30:g}",
        ]  # fmt: skip

    def show(self, record: UndoRecord, act: Act) -> bool:
        """Give the helper's socket its path: the inode is in the record first. A port is there by itself."""
        made: list[int] = []
        try:
            if self._path:
                found = os.lstat(record.data["own"])
                made = [found.st_dev, found.st_ino]
            act.intend(msgspec.structs.replace(record, data={**record.data, "made": made}))
            if self._path:
                os.link(record.data["own"], self._path)
                Path(record.data["own"]).unlink()
        except OSError:
            return False
        act.applied(record.key)
        return True

    def is_refused(self) -> bool:
        """Whether another is refused it, however little it asks for."""
        if self._path:
            # Tried, it would be made where it is gone; and bind(2) refuses whatever is there.
            return os.path.lexists(self._path)
        fault = self._fault
        family = socket.AF_INET6 if ":" in fault.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM if fault.protocol == "udp" else socket.SOCK_STREAM) as one:
            if fault.protocol == "tcp" and fault.listen:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((fault.host, self._port))
            except OSError as problem:
                return problem.errno == errno.EADDRINUSE
        return False


def _take_away(data: dict[str, Any]) -> None:
    """Remove the names of the helper's socket. What has another inode, or is answered at, is somebody else's."""
    if not data["path"]:
        return
    Path(data["own"]).unlink(missing_ok=True)
    try:
        found = os.lstat(data["path"])
    except FileNotFoundError:
        return
    if [found.st_dev, found.st_ino] == data["made"] and not _is_answered(data["path"]):
        Path(data["path"]).unlink(missing_ok=True)


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.setblocking(False)
        try:
            one.connect(path)
        except OSError as problem:
            # A queue that is full is somebody's.
            return problem.errno == errno.EAGAIN
    return True


INJECTOR = OccupyPortInjector()
