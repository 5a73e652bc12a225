"""Docker by its HTTP API, over the Unix socket of its daemon: nothing beyond the standard library, so that healing
needs nothing either.

The paths carry no version: the daemon takes that for its newest (https://docs.docker.com/engine/api/). Containers are
named by their full id wherever something is done to one: a name may be another's by then.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import cgroups

_DEFAULT = "/var/run/docker.sock"
_ID = re.compile(r"[0-9a-f]{64}")
_WITHIN_S = 10.0


class DockerError(OSError):
    """The daemon could not be asked, or said no; `status` is the answer's number, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def address(env: Mapping[str, str]) -> str:
    """The path of the daemon's socket; "" where DOCKER_HOST says that it is no Unix socket."""
    host = env.get("DOCKER_HOST", "")
    if not host:
        return _DEFAULT
    return host.removeprefix("unix://") if host.startswith("unix://") else ""


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    path = address(os.environ)
    if not path:
        return "DOCKER_HOST names no Unix socket, and containers of another machine have no processes here"
    try:
        ask(path, "GET", "/_ping", within_s=2)
    except DockerError as problem:
        return f"{problem} (start Docker, and run as root or in the group docker; DOCKER_HOST says where it is)"
    return ""


def container_of(pid: int) -> str:
    """The id of the container that a process lives in, told by its cgroup; "" for none."""
    found = {one for path in cgroups.paths(pid) or () for one in _ID.findall(path)}
    return found.pop() if len(found) == 1 else ""


def inspect(path: str, container: str) -> dict[str, Any] | None:
    """What the daemon knows of a container, by its name or id; None where there is none. Raises DockerError."""
    try:
        found = ask(path, "GET", f"/containers/{quote(container, safe='')}/json")
    except DockerError as problem:
        if problem.status == http.client.NOT_FOUND:
            return None
        raise
    return found if isinstance(found, dict) else None


def group_of(path: str, container: str) -> str:
    """The cgroup of a running container; "" where it does not run, or is not there. Raises DockerError."""
    seen = inspect(path, container)
    pid = int(seen["State"]["Pid"]) if seen else 0
    if not seen or not pid:
        return ""
    # The daemon keeps the cgroups of containers in places of its own; the process knows where.
    return next((one for one in cgroups.paths(pid) or () if str(seen["Id"]) in one), "")


def ask(path: str, method: str, what: str, body: Any = None, *, within_s: float = _WITHIN_S) -> Any:
    """One request; its answer as JSON or text. Raises DockerError where the daemon says no, or cannot be asked."""
    line = _Line(path, within_s)
    try:
        data = None if body is None else json.dumps(body)
        line.request(method, what, data, {"Content-Type": "application/json"} if data else {})
        answer = line.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        raise DockerError(f"Docker cannot be asked at {path}: {reason}") from problem
    finally:
        line.close()
    found = _decoded(said)
    # 304: it is so already.
    if answer.status >= 400:
        told = found.get("message", said) if isinstance(found, dict) else said
        raise DockerError(f"Docker said {answer.status}: {str(told).strip()}", answer.status)
    return found


def _decoded(said: str) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        return said


class _Line(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, within_s: float) -> None:
        super().__init__("docker", timeout=within_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
