"""The probe *http*: a request is answered with the status, and the body holds the text.

The time counts for the whole exchange, from the look-up of the name to the last byte of the answer, so a server that
drips does not get more. Redirects are answers like others, and no proxy is asked.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from base64 import b64encode
from functools import cache
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..model.probe import Http, Reading
from . import wire
from .answer import Deadline, answering, no, shorten, unknown, yes
from .view import View

MOST_BYTES = 1 << 20
"""How much of a body is read; the rest is not looked at."""


@answering
def read(probe: Http, view: View) -> Reading:
    """Ask, and compare the answer."""
    deadline = Deadline(probe.within_ms)
    try:
        url = urlsplit(probe.url)
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        host = url.hostname or ""
    except (ValueError, KeyError):
        return unknown(f"{probe.url} is no address to ask: it begins with http:// or https://, and a host")
    if not host:
        return unknown(f"{probe.url} names no host")
    where = f"{host}:{port}"
    try:
        connection = wire.connect(host, port, deadline, view.env)
    except OSError as problem:
        detail = wire.explain(problem, where)
        return unknown(detail) if wire.is_our_want(problem) else no(detail)
    with connection:
        return _converse(probe, url, host, port, connection, deadline)


def _converse(
    probe: Http, url: SplitResult, host: str, port: int, connection: socket.socket, deadline: Deadline
) -> Reading:
    within = f"within {probe.within_ms}"
    progress = "it took the connection, but did not answer"
    body = bytearray()
    try:
        talk = _secure(connection, host, deadline) if url.scheme == "https" else connection
        with talk:
            client = http.client.HTTPConnection(host, port)
            client.default_port = 443 if url.scheme == "https" else 80
            client.sock = _Timed(talk, deadline)
            headers = {**_credentials(url), "Connection": "close", "User-Agent": "croupier", **probe.headers}
            client.request(probe.method, _path(url), body=probe.body.encode() or None, headers=headers)
            answer = client.getresponse()
            progress = f"it began to answer with {answer.status}, but was not done"
            # A wrong status is the finding; its body is only there to explain it.
            if not _expected(probe, answer.status):
                return no(_unexpected(probe, answer, _glimpse(answer)), status=answer.status)
            whole = _read_body(answer, body)
    except TimeoutError:
        return no(f"{progress} {within} ({len(body)} bytes of the body came)" if body else f"{progress} {within}")
    except ssl.SSLCertVerificationError as problem:
        return no(f"its certificate is not trusted: {problem.verify_message or problem.reason}")
    except ssl.SSLError as problem:
        return no(f"no secure connection came about: {problem.reason or problem}")
    except http.client.RemoteDisconnected:
        return no("it closed the connection without an answer")
    except http.client.IncompleteRead:
        return no(f"the answer broke off after {len(body)} bytes of the body")
    except http.client.InvalidURL as problem:
        return unknown(f"the request cannot be made: {problem}")
    except http.client.HTTPException as problem:
        return no(f"what came back is no HTTP answer: {type(problem).__name__} {shorten(str(problem), 100)}")
    except OSError as problem:
        return no(f"{progress}: {problem.strerror or problem}")
    except ValueError as problem:
        return unknown(f"the request cannot be made: {problem}")
    return _judge_body(probe, answer.status, bytes(body), whole, deadline)


def _judge_body(probe: Http, status: int, body: bytes, whole: bool, deadline: Deadline) -> Reading:
    if probe.contains and probe.contains.encode() not in body:
        part = "" if whole else f" in the first {MOST_BYTES // 2**20} MiB"
        return no(f"answered {status}, but {probe.contains!r} is not in the body{part}: {_first(body)}", status=status)
    return yes(f"answered {status}", status=status, bytes=len(body))


def _expected(probe: Http, status: int) -> bool:
    return status in ((probe.status,) if isinstance(probe.status, int) else probe.status)


def _unexpected(probe: Http, answer: http.client.HTTPResponse, said: str) -> str:
    wanted = " or ".join(map(str, (probe.status,) if isinstance(probe.status, int) else probe.status))
    where = answer.getheader("Location", "") if 300 <= answer.status < 400 else ""
    aim = f" (a redirect to {shorten(where, 200)}, which is not followed)" if where else ""
    return f"answered {answer.status}{aim} instead of {wanted}{f': {said}' if said else ''}"


def _glimpse(answer: http.client.HTTPResponse) -> str:
    body = bytearray()
    try:
        _read_body(answer, body)
    except (OSError, http.client.HTTPException, ValueError):
        pass  # What came so far explains as well as it can.
    return _first(bytes(body)) if body else ""


def _first(body: bytes) -> str:
    return shorten(body[:2_000].decode(errors="replace"), 160) if body.strip() else "it is empty"


def _read_body(answer: http.client.HTTPResponse, body: bytearray) -> bool:
    """Add what comes to `body`; False where it went past the most that is read. Raises IncompleteRead for a cut one."""
    while len(body) < MOST_BYTES:
        part = answer.read1(min(65_536, MOST_BYTES - len(body)))
        if not part:
            if answer.length:
                raise http.client.IncompleteRead(bytes(body), answer.length)
            return True
        body += part
    return False


def _path(url: SplitResult) -> str:
    query = f"?{url.query}" if url.query else ""
    return quote(f"{url.path or '/'}{query}", safe="/%:=&?~+!$,;'@()*[]|")


def _credentials(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _secure(connection: socket.socket, host: str, deadline: Deadline) -> socket.socket:
    connection.settimeout(deadline.left())
    return _trust().wrap_socket(connection, server_hostname=host)


class _Timed:
    """The part of a socket that http.client uses, where every step ends at the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        left = memoryview(data)
        while left:
            self._connection.settimeout(self._deadline.left())
            left = left[self._connection.send(left) :]

    def makefile(self, mode: str, buffering: int | None = None) -> io.BufferedReader:
        """What the answer is read from."""
        return io.BufferedReader(_Stream(self._connection, self._deadline))

    def close(self) -> None:
        """Left to whoever made the connection: http.client closes early, while the answer is still read."""


class _Stream(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left())
        return self._connection.recv_into(buffer)
