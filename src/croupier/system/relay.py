"""How a proxy of a round is spoken to, and what it is told. It listens to the user whom it runs as, and to root."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

import msgspec

from ..model.link import Asked, LinkRule, RelayState
from . import control as line
from .control import RUN, WITHIN_S

__all__ = ["RUN", "WITHIN_S", "add", "ask", "control", "lacking", "lift"]


def lacking() -> str:
    """Why no proxy can be spoken to here; "" where it can."""
    if sys.platform != "linux":
        return "proxies need Linux (/proc, and abstract Unix sockets)"
    try:
        with socket.socket(socket.AF_UNIX) as one:
            # Without a name of its own, the kernel gives it an abstract one.
            one.bind("")
    except OSError as problem:
        return f"abstract Unix sockets do not work here: {problem.strerror}"
    return ""


def control(env: Mapping[str, str], name: str) -> str:
    """The name of a proxy's control socket, without the leading NUL. `env` is that of the round."""
    return line.named(env, name)


def ask(where: str, asked: Asked | None = None, *, within_s: float = WITHIN_S) -> RelayState | None:
    """Ask the proxy with this control socket; None where there is none. Raises TimeoutError if it does not answer."""
    answer = line.ask(where, msgspec.json.encode(asked or Asked()), "the proxy does not answer", within_s)
    return None if answer is None else msgspec.json.decode(answer, type=RelayState)


def add(where: str, rule: LinkRule, *, within_s: float = WITHIN_S) -> RelayState | None:
    """Put a rule into force."""
    return ask(where, Asked(add=rule), within_s=within_s)


def lift(where: str, key: str) -> RelayState | None:
    """Lift a rule."""
    return ask(where, Asked(lift=key))
