"""How the resolver of a network is spoken to, and asked as anybody who lives there would."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..model.naming import PORT, TIME_OUT, NameRule, NamesAsked, NamesState, answered, question
from . import control, networks

_SWITCH = Path("/etc/nsswitch.conf")
_HOSTS = "hosts: files dns"


def named(env: Mapping[str, str], network: str) -> str:
    """The name of the control socket of a network's resolver."""
    return control.named(env, f"names of {network}")


def tell(where: str, asked: NamesAsked | None = None) -> NamesState | None:
    """Tell it something, and hear how it stands; None where there is none. Raises TimeoutError without an answer."""
    said = control.ask(where, msgspec.json.encode(asked or NamesAsked()), "the resolver does not answer")
    return None if said is None else msgspec.json.decode(said, type=NamesState)


def add(where: str, rule: NameRule) -> NamesState | None:
    """Put a rule into force."""
    return tell(where, NamesAsked(add=rule))


def lift(where: str, key: str) -> NamesState | None:
    """Lift a rule."""
    return tell(where, NamesAsked(lift=key))


def look_up(home: str, server: str, name: str, within_s: float) -> str:
    """What somebody who lives in a namespace is answered: an address, or as `Dns.answer` has it. Raises OSError."""
    number = int.from_bytes(os.urandom(2), "big")
    with networks.inside(home):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one:
        one.settimeout(within_s)
        one.sendto(question(number, name), (server, PORT))
        try:
            while (said := answered(one.recv(4_096), number)) is None:
                pass
        except TimeoutError:
            return TIME_OUT
    return said


def files(folder: Path, network: str, server: str) -> dict[str, str]:
    """Write down what makes programs ask this server, and answer which file each is to be seen in place of.

    resolv.conf(5), and nsswitch.conf(5) where there is one: no other source of names than /etc/hosts may be asked.
    """
    ours = folder / f"{network}.resolv.conf"
    folder.mkdir(parents=True, exist_ok=True)
    ours.write_text(f"nameserver {server}\n")
    seen = {"/etc/resolv.conf": str(ours)}
    if _SWITCH.exists():
        lines = [one for one in _SWITCH.read_text().splitlines() if not one.strip().startswith("hosts:")]
        switch = folder / f"{network}.nsswitch.conf"
        switch.write_text("\n".join([*lines, _HOSTS, ""]))
        seen[str(_SWITCH)] = str(switch)
    return seen
