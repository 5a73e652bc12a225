"""What tests of proxied connections share: a proxy in a process of its own, and somebody who answers behind it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hands import eventually

from croupier.model.link import LinkRule, RelayState
from croupier.system import relay
from croupier.system.clock import now_us

LONG_US = 60_000_000


class Answerer:
    """Listens, and sends back what it gets. Keeps what each connection sent."""

    def __init__(self, path: str = "") -> None:
        if path:
            self._door = socket.socket(socket.AF_UNIX)
            self._door.bind(path)
            self._door.listen()
        else:
            self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"unix:{path}" if path else f"127.0.0.1:{self._door.getsockname()[1]}"
        self.heard: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._door.accept()
            except OSError:
                return
            heard = bytearray()
            self.heard.append(heard)
            threading.Thread(target=self._answer, args=(peer, heard), daemon=True).start()

    def _answer(self, peer: socket.socket, heard: bytearray) -> None:
        with peer:
            try:
                while data := peer.recv(1 << 16):
                    heard += data
                    peer.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._door.close()


class Proxied:
    """A proxy, as its users and its injectors see it."""

    def __init__(self, where: str, port: int, path: str, process: subprocess.Popen[bytes]) -> None:
        self.where = where
        self.port = port
        self.path = path
        self.process = process
        self._rules = 0

    def connect(self) -> socket.socket:
        """A connection through it."""
        if self.path:
            one = socket.socket(socket.AF_UNIX)
            one.connect(self.path)
        else:
            one = socket.create_connection(("127.0.0.1", self.port))
        one.settimeout(10)
        return one

    def rule(self, **options: object) -> str:
        """Put a rule into force, on everybody if nothing else is said; its key."""
        self._rules += 1
        known = {"key": str(self._rules), "until_us": now_us() + LONG_US, "everybody": "tops" not in options}
        assert relay.add(self.where, LinkRule(**{**known, **options})) is not None
        return str(self._rules)

    def lift(self, key: str) -> RelayState:
        """Lift a rule."""
        state = relay.lift(self.where, key)
        assert state is not None
        return state

    def hits(self, key: str) -> int:
        """How often a rule did something."""
        state = relay.ask(self.where)
        found = state.rule(key) if state else None
        return found.hits if found else 0


def a_free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def a_proxy(to: str, *, run: str = "", name: str = "db", path: Path | None = None) -> Iterator[Proxied]:
    """A proxy to this address, killed at the end."""
    run = run or f"run-of-{os.getpid()}-{a_free_port()}"
    where = relay.control({relay.RUN: run}, name)
    port = 0 if path else a_free_port()
    kind = "pipe" if to.startswith("pipe:") else "unix"
    listen = f"{kind}:{path}" if path else f"127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "croupier.relay", where, listen, to])
    try:
        assert eventually(lambda: relay.ask(where, within_s=20), 20), "the proxy did not start"
        yield Proxied(where, port, str(path or ""), process)
    finally:
        process.kill()
        process.wait()


def whole(one: socket.socket, count: int) -> bytes:
    """So many bytes, or less where the connection ends first."""
    data = bytearray()
    while len(data) < count and (part := one.recv(min(1 << 20, count - len(data)))):
        data += part
    return bytes(data)


def is_silent(one: socket.socket, for_s: float = 0.2) -> bool:
    """Whether nothing comes for a while, and not the end either."""
    return not select.select([one], [], [], for_s)[0]
