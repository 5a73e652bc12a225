"""Kubernetes by way of kubectl(1), which knows how to reach a cluster, and as whom.

Every call names its context, and is given an end. What is read is JSON, as the API has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

_WITHIN_S = 10.0


class KubectlError(OSError):
    """kubectl said no, or could not be run."""


def lacking(context: str) -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)"
    try:
        known = _run(("config", "get-contexts", "--output=name"), None, 5.0).split()
    except KubectlError as problem:
        return f"kubectl cannot read its configuration: {problem} (KUBECONFIG says where it is)"
    return "" if context in known else f"kubectl knows no context {context!r} (kubectl config get-contexts lists them)"


class Cluster:
    """One cluster, as one context reaches it."""

    def __init__(self, context: str, env: Mapping[str, str]) -> None:
        self.context = context
        self.env = {key: env[key] for key in ("KUBECONFIG", "HOME") if key in env}

    def get(self, kind: str, name: str = "", *options: str) -> dict[str, Any] | None:
        """An object, or a list of them, as JSON; None where there is none of that name. Raises KubectlError."""
        named = (name,) if name else ()
        said = self.tell("get", *options, "--ignore-not-found", "--output=json", "--", kind, *named)
        if not said.strip():
            return None
        try:
            found = json.loads(said)
        except ValueError as problem:
            raise KubectlError(f"kubectl did not answer with JSON: {said[:100]!r}") from problem
        return found if isinstance(found, dict) else None

    def tell(self, verb: str, *words: str, within_s: float = _WITHIN_S) -> str:
        """`kubectl VERB …`; what it printed. Raises KubectlError where it fails, or takes too long."""
        argv = (verb, f"--context={self.context}", f"--request-timeout={max(1, round(within_s))}s", *words)
        return _run(argv, self.env, within_s)


def _run(words: tuple[str, ...], env: Mapping[str, str] | None, within_s: float) -> str:
    try:
        done = subprocess.run(
            ("kubectl", *words), capture_output=True, text=True, timeout=within_s + 1, stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as problem:
        raise KubectlError(f"kubectl {words[0]} was not done within {within_s:g} s") from problem
    except OSError as problem:
        raise KubectlError(f"kubectl cannot be run: {problem.strerror}") from problem
    if done.returncode:
        raise KubectlError(" ".join((done.stderr or done.stdout).split()) or f"kubectl {words[0]} failed")
    return done.stdout
