"""The surroundings of a run, for `artifacts/environment.json`: variables without secrets, versions, the machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..model.secret import HIDDEN
from .redact import Redactor, environment_digest

_PACKAGES = ("croupier", "jinja2", "msgspec", "psutil", "rich", "ruamel.yaml")


def describe_environment(env: Mapping[str, str], redactor: Redactor) -> dict[str, Any]:
    """Plain values, ready for JSON. `memory_bytes` is the machine's; `cpus` are those that we may use."""
    return {
        "digest": environment_digest(env, redactor),
        "variables": {
            redactor.clean(_readable(name)): redactor.clean(_readable(env[name])) if redactor.shows(name) else HIDDEN
            for name in sorted(env)
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "os": {
            "system": platform.system(),
            "name": _os_name(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()).strip(),
        },
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _readable(text: str) -> str:
    # Bytes that are no UTF-8 are kept by Python as lone surrogates, which JSON cannot hold.
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.platform(terse=True)


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
