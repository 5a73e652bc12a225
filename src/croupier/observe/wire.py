"""Connections that are made in time, for the probes that knock at a port."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from ..system import networks
from .answer import Deadline, in_time

# Our own machine's want, which says nothing about the program that was asked.
_OUR_WANT = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES)
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def connect(host: str, port: int, deadline: Deadline, env: Mapping[str, str]) -> socket.socket:
    """A connected TCP socket; to an address in a network of the round, one from there.

    Raises OSError (TimeoutError when the time is over, gaierror for an unknown name).
    """
    addresses = _resolve(host, port, deadline)
    problem: OSError = OSError(f"{host!r} has no address")
    for nth, (family, kind, protocol, _, address) in enumerate(addresses):
        # One address that swallows everything must not take the time of the others.
        patience = deadline.left() / (len(addresses) - nth)
        one = _socket(env, address[0], family, kind, protocol)
        try:
            one.settimeout(patience)
            one.connect(address)
            _refuse_itself(one)
            return one
        except OSError as met:
            one.close()
            problem = met
    raise problem


def _socket(env: Mapping[str, str], host: str, *what: int) -> socket.socket:
    door = networks.door_to(env, host)
    if not door:
        return socket.socket(*what)
    with networks.inside(door):
        return socket.socket(*what)


def _refuse_itself(one: socket.socket) -> None:
    # On the loopback, the port that the kernel lends us may be the very one we knock at. TCP then connects the
    # socket to itself: nobody listens there, and an orderly close would keep the port from the program for a minute.
    if one.getsockname() == one.getpeername():
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _resolve(host: str, port: int, deadline: Deadline) -> list[tuple[Any, ...]]:
    def ask(flags: int = 0) -> list[tuple[Any, ...]]:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))

    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A name may be looked up in the network, which has a patience of its own.
        try:
            return in_time(f"name {host}", ask, deadline.left() * 1_000)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None
    return ask(socket.AI_NUMERICHOST)


def is_our_want(problem: OSError) -> bool:
    """Whether a connection failed for something that this machine lacks (files, memory, leave)."""
    return not isinstance(problem, TimeoutError | socket.gaierror) and problem.errno in _OUR_WANT


def explain(problem: OSError, where: str) -> str:
    """Why no connection came about, in a sentence."""
    match problem:
        case TimeoutError():
            return f"no connection to {where} in time: nobody took it"
        case ConnectionRefusedError():
            return f"nobody listens on {where}: connection refused"
        case socket.gaierror():
            return f"the name in {where} could not be looked up: {problem.strerror}"
    return f"no connection to {where}: {problem.strerror or problem}"
