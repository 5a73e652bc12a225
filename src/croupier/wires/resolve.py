"""The resolver, `python -m croupier.wires.resolve SPEC`: tells whoever lives in a network where others are found.

It knows the names that it was told, asks nobody else, and obeys its control socket, which is not in the network. A rule
for wrong answers ends by itself when its time is over.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

import msgspec

from ..model.naming import PORT, NameRule, NamesAsked, NamesState, Naming, answer, question_of
from ..system import kernel, sockets
from ..system.clock import now_us

_MOST_BYTES = 4_096
_ASKED_WITHIN_S = 1.0


class Resolver:
    """Two sockets: one for questions, one for orders."""

    def __init__(self, spec: Naming) -> None:
        self._names = spec.names
        self._rules: dict[str, NameRule] = {}
        self._hits: dict[str, int] = {}
        # Before the network is entered: abstract names are a namespace's own.
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(f"\0{spec.control}")
        self._control.listen(16)
        kernel.enter_network(spec.network)
        self._door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._door.bind((spec.address, PORT))

    def serve(self) -> None:
        """Answer until killed."""
        poll = select.poll()
        for one in (self._control, self._door):
            poll.register(one, select.POLLIN)
        while True:
            ready = {file for file, _ in poll.poll()}
            if self._control.fileno() in ready:
                self._obey()
            if self._door.fileno() in ready:
                self._answer()

    def _answer(self) -> None:
        try:
            message, client = self._door.recvfrom(_MOST_BYTES)
        except OSError:
            return
        asked = question_of(message)
        if asked is None:
            return
        now = now_us()
        rule = next((one for one in self._rules.values() if one.holds_for(asked.name, client[0], now)), None)
        if rule is not None:
            self._hits[rule.key] = self._hits.get(rule.key, 0) + 1
        said = answer(asked, self._names, rule.answer if rule else "")
        if said is not None:
            try:
                self._door.sendto(said, client)
            except OSError:
                return

    def _obey(self) -> None:
        line, _ = self._control.accept()
        with line:
            if sockets.peer(line)[1] not in (0, os.getuid()):
                return
            line.settimeout(_ASKED_WITHIN_S)
            try:
                asked = msgspec.json.decode(line.makefile("rb").readline(), type=NamesAsked)
                if asked.add is not None:
                    self._rules[asked.add.key] = asked.add
                self._rules.pop(asked.lift, None)
                in_force = tuple(key for key, one in self._rules.items() if now_us() < one.until_us)
                line.sendall(msgspec.json.encode(NamesState(rules=in_force, hits=self._hits)) + b"\n")
            except (OSError, msgspec.MsgspecError):
                return


def main() -> None:
    """Answer until killed."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    try:
        resolver = Resolver(msgspec.json.decode(sys.argv[1], type=Naming))
    except OSError as problem:
        sys.exit(f"names cannot be answered for: {problem}")
    resolver.serve()


if __name__ == "__main__":
    main()
