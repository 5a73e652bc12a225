"""How a proxy of a round is spoken to: an abstract socket (unix(7)) that is named after the run and the proxy.

The name is made, never looked up, so a record needs no address; nobody else's proxy can carry it, and there is no file
to be left behind. The proxy listens to the user whom it runs as, and to root.
"""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Mapping

import msgspec

from ..model.link import Asked, LinkRule, RelayState

RUN = "CROUPIER_RUN"
WITHIN_S = 0.4
"""An answer takes less than a millisecond. Healing has half a second for each record in the worst case."""
_TRIES = 3
_SILENT = "the proxy does not answer"


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
    return "croupier-" + hashlib.sha256(f"{env.get(RUN, '')}/{name}".encode()).hexdigest()[:32]


def ask(where: str, asked: Asked | None = None, *, within_s: float = WITHIN_S) -> RelayState | None:
    """Ask the proxy with this control socket; None where there is none. Raises TimeoutError if it does not answer.

    Only a socket that nobody listens on tells that it has gone: one that closes without an answer is asked again.
    """
    for _ in range(_TRIES):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(within_s)
            try:
                line.connect(f"\0{where}")
            except (ConnectionRefusedError, FileNotFoundError):
                return None
            except (TimeoutError, BlockingIOError) as problem:
                raise TimeoutError(_SILENT) from problem
            try:
                line.sendall(msgspec.json.encode(asked or Asked()) + b"\n")
                answer = line.makefile("rb").readline()
            except TimeoutError as problem:
                raise TimeoutError(_SILENT) from problem
            except ConnectionError:
                continue
        if answer:
            return msgspec.json.decode(answer, type=RelayState)
    raise TimeoutError(_SILENT)


def add(where: str, rule: LinkRule, *, within_s: float = WITHIN_S) -> RelayState | None:
    """Put a rule into force."""
    return ask(where, Asked(add=rule), within_s=within_s)


def lift(where: str, key: str) -> RelayState | None:
    """Lift a rule."""
    return ask(where, Asked(lift=key))
