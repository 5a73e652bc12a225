"""Units of systemd, by way of systemctl(1): what is known of one, and what it is told.

Properties are those of systemctl show; numbers that are not limited read `infinity`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Literal

from . import cgroups

Manager = Literal["system", "user"]

_UNIT = re.compile(r"[^/]+\.(service|scope)")
_USER_MANAGER = re.compile(r"user@\d+\.service")
_US_PER_UNIT = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h)\b")


class SystemdError(OSError):
    """systemctl said no, or could not be run."""


def lacking(manager: Manager = "system") -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    if shutil.which("systemctl") is None:
        return "systemctl is not installed (apt-get install systemd)"
    try:
        tell(manager, "show", "-p", "Version", within_s=5)
    except SystemdError as problem:
        return f"systemd cannot be asked: {problem} (it has to be what looks after this machine, or this user)"
    return ""


def unit_of(pid: int) -> str:
    """The unit that a process lives in, told by its cgroup: the innermost service or scope; "" for none."""
    for path in cgroups.paths(pid) or ():
        for part in reversed(path.split("/")):
            if _UNIT.fullmatch(part):
                return part
    return ""


def manager_of(pid: int) -> Manager:
    """Whose unit it lives in: that of a user's own systemd, below `user@UID.service`, or of the machine's."""
    for path in cgroups.paths(pid) or ():
        parts = path.split("/")
        if any(_USER_MANAGER.fullmatch(part) for part in parts[:-1]):
            return "user"
    return "system"


def is_in(pid: int, group: str) -> bool:
    """Whether a process lives in a control group, or below it. Nobody lives in none."""
    return group not in ("", "/") and any(f"{one}/".startswith(f"{group}/") for one in cgroups.paths(pid) or ())


def show(manager: Manager, unit: str, *names: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Some properties of a unit, as systemctl shows them. Raises SystemdError."""
    said = tell(manager, "show", "-p", ",".join(("LoadState", *names)), "--", unit, env=env)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if found.get("LoadState") == "not-found":
        raise SystemdError(f"there is no unit {unit}")
    return found


def group_of(manager: Manager, unit: str) -> str:
    """The cgroup of a unit; "" while it has none. Raises SystemdError."""
    return show(manager, unit, "ControlGroup").get("ControlGroup", "")


def tell(manager: Manager, *words: str, within_s: float = 30.0, env: Mapping[str, str] | None = None) -> str:
    """Run systemctl; what it printed. Raises SystemdError where it fails, or takes too long."""
    whose = ("--user",) if manager == "user" else ("--system",)
    argv = ("systemctl", *whose, "--no-pager", "--no-ask-password", *words)
    # In plain English, whatever the operator speaks.
    told = {**os.environ, **(env or {}), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=within_s, stdin=subprocess.DEVNULL, env=told, check=False
        )
    except subprocess.TimeoutExpired as problem:
        raise SystemdError(f"systemctl {words[0]} was not done within {within_s:g} s") from problem
    except OSError as problem:
        raise SystemdError(f"systemctl cannot be run: {problem.strerror}") from problem
    if done.returncode:
        raise SystemdError(" ".join((done.stderr or done.stdout).split()) or f"systemctl {words[0]} failed")
    return done.stdout


def microseconds(span: str) -> int | None:
    """A span of time as systemctl shows it, like `200ms` or `1.500s` or `1min 30s`; None for `infinity`."""
    if span == "infinity":
        return None
    return round(sum(float(number) * _US_PER_UNIT[unit] for number, unit in _SPAN.findall(span)))
