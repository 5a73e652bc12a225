"""How a helper of a round is spoken to: an abstract socket (unix(7)) that is named after the run and the helper.

The name is made, never looked up, so a record needs no address; nobody else's helper can carry it, and there is no file
to be left behind. One line is asked, and one answered.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping

RUN = "CROUPIER_RUN"
WITHIN_S = 0.4
"""An answer takes less than a millisecond. Healing has half a second for each record in the worst case."""
_TRIES = 3


def named(env: Mapping[str, str], name: str) -> str:
    """The name of a helper's control socket, without the leading NUL. `env` is that of the round."""
    return "croupier-" + hashlib.sha256(f"{env.get(RUN, '')}/{name}".encode()).hexdigest()[:32]


def ask(where: str, line: bytes, silent: str, within_s: float = WITHIN_S) -> bytes | None:
    """What the helper with this control socket answers; None where there is none. Raises TimeoutError(silent).

    Only a socket that nobody listens on tells that it has gone: one that closes without an answer is asked again.
    """
    for _ in range(_TRIES):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(within_s)
            try:
                one.connect(f"\0{where}")
            except (ConnectionRefusedError, FileNotFoundError):
                return None
            except (TimeoutError, BlockingIOError) as problem:
                raise TimeoutError(silent) from problem
            try:
                one.sendall(line + b"\n")
                answer = one.makefile("rb").readline()
            except TimeoutError as problem:
                raise TimeoutError(silent) from problem
            except ConnectionError:
                continue
        if answer:
            return answer
    raise TimeoutError(silent)
