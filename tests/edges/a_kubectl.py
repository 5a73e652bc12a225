"""A stand-in for kubectl, and a cluster that is a file: no Kubernetes runs here.

It takes the commands that ours gives and no others, as kubectl 1.32 understands them, and answers with objects as the
API has them (core/v1, cut down to what is read). Whoever wants to see what it was asked reads `asked`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROGRAM = """#!{python} -S
import argparse, json, sys
STATE, ASKED = {state!r}, {asked!r}
with open(ASKED, "a") as file: file.write(json.dumps(sys.argv[1:]) + "\\n")
state = json.load(open(STATE))
def fail(said):
    sys.exit(said)
def one(kind, name, namespace=None):
    for found in state[kind]:
        meta = found["metadata"]
        if meta["name"] == name and (namespace is None or meta["namespace"] == namespace): return found
args = sys.argv[1:]
if args[:2] == ["config", "get-contexts"] and args[2:] == ["--output=name"]:
    print("staging"); sys.exit()
parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=True)
verb = args[0]
if verb not in ("get", "cordon", "uncordon", "drain", "delete", "exec"): fail("error: unknown command " + verb)
cut = args.index("--")
parser.add_argument("--context", required=True); parser.add_argument("--request-timeout", required=True)
for flag in {{"get": ["--ignore-not-found", "--all-namespaces"], "delete": ["--force"],
             "drain": ["--ignore-daemonsets", "--delete-emptydir-data"]}}.get(verb, []):
    parser.add_argument(flag, action="store_true")
for option in {{"get": ["--output", "--namespace", "--field-selector"], "drain": ["--timeout"],
               "delete": ["--namespace", "--grace-period", "--wait"],
               "exec": ["--namespace", "--container"]}}.get(verb, []):
    parser.add_argument(option)
parser.add_argument("rest", nargs="*")
asked = parser.parse_args(args[1:cut])
if asked.context != "staging": fail("error: context was not found")
rest = asked.rest + args[cut + 1:]
if verb == "get":
    kind, name = rest[0], rest[1] if len(rest) > 1 else None
    if name is None:
        node = asked.field_selector.removeprefix("spec.nodeName=")
        listed = [pod for pod in state["pods"] if pod["spec"]["nodeName"] == node]
        print(json.dumps({{"apiVersion": "v1", "kind": "List", "items": listed}}))
    elif (found := one(kind, name, asked.namespace)): print(json.dumps(found))
    elif not asked.ignore_not_found: fail("Error from server (NotFound)")
elif verb in ("cordon", "uncordon"):
    node = one("nodes", rest[0]) or fail("Error from server (NotFound)")
    if verb == "cordon": node["spec"]["unschedulable"] = True
    else: node["spec"].pop("unschedulable", None)
elif verb == "drain":
    one("nodes", rest[0])["spec"]["unschedulable"] = True
    if not asked.ignore_daemonsets: fail("error: cannot delete DaemonSet-managed Pods")
    state["pods"] = [pod for pod in state["pods"] if pod["spec"]["nodeName"] != rest[0]
                     or any(o["kind"] == "DaemonSet" for o in pod["metadata"].get("ownerReferences", []))]
elif verb == "delete":
    if asked.grace_period == "0" and not asked.force: fail("warning: immediate deletion needs --force")
    pod = one("pods", rest[1], asked.namespace) or fail("Error from server (NotFound)")
    if asked.force: state["pods"].remove(pod)
    else: pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
elif verb == "exec":
    pod = one("pods", rest[0], asked.namespace) or fail("Error from server (NotFound)")
    if rest[1] != "kill": fail("error: stat " + rest[1])
    status = next(s for s in pod["status"]["containerStatuses"] if s["name"] == asked.container)
    if rest[2] == "-TERM" and rest[3] == "1":
        status["restartCount"] += 1; status["containerID"] += "x"
with open(STATE, "w") as file: json.dump(state, file)
"""


def a_node(name: str, **spec: Any) -> dict[str, Any]:
    """A node as the API has it."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


def a_pod(name: str, *, namespace: str = "shop", node: str = "worker-1", owner: str = "ReplicaSet") -> dict[str, Any]:
    """A running pod as the API has it."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}",
                     "ownerReferences": [{"kind": owner, "name": name, "controller": True}] if owner else []},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app:1"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "app", "containerID": "containerd://1", "restartCount": 0, "ready": True,
             "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
    }  # fmt: skip


class Kubectl:
    """The stand-in, and the state of its cluster."""

    def __init__(self, folder: Path) -> None:
        self._state, self._asked = folder / "cluster.json", folder / "asked.jsonl"
        self.set(nodes=[a_node("worker-1")], pods=[])
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(
            PROGRAM.format(python=sys.executable, state=str(self._state), asked=str(self._asked)), "utf-8"
        )
        program.chmod(0o755)
        self.path = str(program.parent)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._state.read_text())
        return found

    def set(self, **state: Any) -> None:
        self._state.write_text(json.dumps({**(self.state if self._state.exists() else {}), **state}))

    def asked(self, verb: str) -> list[list[str]]:
        """The commands of one verb, so far."""
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        return [words for words in map(json.loads, lines) if words[0] == verb]
