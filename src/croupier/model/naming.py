"""Naming: what a resolver of ours answers to a question for a name, truly or wrongly. The messages are RFC 1035's.

Only what a program needs to find another is spoken: one question, over UDP, answered with addresses of IPv4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from .noun import Noun

PORT = 53
TIME_OUT = "time_out"
CODES = {"servfail": 2, "nxdomain": 3}
"""Answers that are a code; RFC 1035, 4.1.1."""
_A, _IN, _ANY = 1, 1, 255
_HEADER = 12
_ANSWERS = 0x8400
"""Flags of an answer by who is in charge of the name."""
_WANTS_RECURSION = 0x0100
_CAN_RECURSION = 0x0080
_TO_NAME = b"\xc0\x0c"
"""The name of the question, pointed to."""


class Naming(Noun, frozen=True, kw_only=True):
    """What a resolver is told at its start."""

    control: str
    """The name of the socket on which it is spoken to."""
    network: str
    """The namespace to answer in, as a path."""
    address: str
    """Where it answers there."""
    names: dict[str, str]
    """Name to address, in lower case."""


class NameRule(Noun, frozen=True, kw_only=True):
    """Wrong answers for some names, for a while."""

    key: str
    pattern: str
    """A glob, in lower case."""
    answer: str
    """`nxdomain`, `servfail`, `time_out`, or an address."""
    clients: tuple[str, ...]
    """Addresses of those who get it; everybody where there are none."""
    until_us: int
    """It ends by itself then, on the monotonic clock."""

    def holds_for(self, name: str, client: str, now_us: int) -> bool:
        """Whether this question is answered wrongly."""
        meant = not self.clients or client in self.clients
        return meant and now_us < self.until_us and fnmatchcase(name, self.pattern)


class NamesAsked(Noun, frozen=True, kw_only=True):
    """What a resolver may be asked: how it stands, after a rule was added or lifted."""

    add: NameRule | None = None
    lift: str = ""


class NamesState(Noun, frozen=True, kw_only=True):
    """How a resolver stands."""

    rules: tuple[str, ...] = ()
    """The keys of those in force."""
    hits: dict[str, int] = {}
    """Key to how many questions were answered wrongly by that rule so far."""


class Question(NamedTuple):
    """What somebody asks for."""

    number: int
    name: str
    kind: int
    flags: int
    raw: bytes
    """The question as it was written."""


def question_of(message: bytes) -> Question | None:
    """The one question of a message; None for anything else."""
    if len(message) < _HEADER or message[2] & 0x80 or message[4:6] != b"\0\1":
        return None
    labels, at = [], _HEADER
    while at < len(message) and (size := message[at]):
        if size > 63:
            return None
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    raw = message[_HEADER : at + 5]
    if at + 5 > len(message) or raw[-2:] != _IN.to_bytes(2, "big"):
        return None
    name = b".".join(labels).decode("ascii", "replace").lower()
    return Question(
        int.from_bytes(message[:2], "big"),
        name,
        int.from_bytes(raw[-4:-2], "big"),
        int.from_bytes(message[2:4], "big"),
        raw,
    )


def question(number: int, name: str) -> bytes:
    """A message that asks for the address of a name."""
    labels = b"".join(len(one).to_bytes(1, "big") + one for one in name.encode("ascii").split(b"."))
    head = [number, _WANTS_RECURSION, 1, 0, 0, 0]
    return b"".join(one.to_bytes(2, "big") for one in head) + labels + b"\0" + bytes((0, _A, 0, _IN))


def answer(asked: Question, names: Mapping[str, str], wrongly: str = "") -> bytes | None:
    """The message that answers; None where there is to be none. `wrongly` as a rule has it, or "" for the truth."""
    if wrongly == TIME_OUT:
        return None
    if wrongly in CODES:
        return _message(asked, CODES[wrongly], [])
    address = wrongly or names.get(asked.name, "")
    if not address:
        return _message(asked, CODES["nxdomain"], [])
    return _message(asked, 0, [address] if asked.kind in (_A, _ANY) else [])


def answered(message: bytes, number: int) -> str | None:
    """What an answer to our question says: an address, `nxdomain`, `servfail`, "" for none; None if it is no answer."""
    if len(message) < _HEADER or int.from_bytes(message[:2], "big") != number or not message[2] & 0x80:
        return None
    code = message[3] & 0x0F
    if code:
        return next((name for name, one in CODES.items() if one == code), f"code {code}")
    return ".".join(map(str, message[-4:])) if message[7] else ""


def _message(asked: Question, code: int, addresses: Iterable[str]) -> bytes:
    found = [bytes(map(int, one.split("."))) for one in addresses]
    flags = _ANSWERS | asked.flags & _WANTS_RECURSION | _CAN_RECURSION | code
    head = [asked.number, flags, 1, len(found), 0, 0]
    # Nobody may keep it: what is true now is not true for long.
    records = (_TO_NAME + bytes((0, _A, 0, _IN, 0, 0, 0, 0, 0, 4)) + one for one in found)
    return b"".join(one.to_bytes(2, "big") for one in head) + asked.raw + b"".join(records)
