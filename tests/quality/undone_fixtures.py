"""On what each fault is tried in the table of docs/reference/undone.md. A new fault of FAULTS needs one entry here.

A fixture is the fragment of an experiment that holds the fault, and how the rest of the experiment differs from the
ordinary one: a quiet process that croupier did not start, and is attached to, so that it outlives every death and can
be compared with what it was. `HERE` in a text is the directory of the trial, `RUNS` that of its runs. Let faults last
for `FOR`; they need not land, but must come as far as changing something.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

FOR = "500ms"
"""Long enough to be seen, and short enough for a thousand trials."""


class Fixture(NamedTuple):
    """One fault, and what it needs around it."""

    fault: dict[str, Any]
    """`{KIND: OPTIONS}`, as in an experiment file."""
    more: dict[str, Any] = {}
    """Further keys of the experiment: `volumes`, `proxies`, other processes."""
    files: tuple[str, ...] = ()
    """Files that only the fault would change, with all that is below them."""
    target: str = "guest"
    """The process that is hit: the attached one, or one of `processes` where croupier has to have started it."""
    asks: bool = False
    """The attached process answers on HERE/real.sock, and asks itself by HERE/front.sock all the time."""


def program(lines: str) -> list[str]:
    """The command that runs a few lines of Python."""
    return [sys.executable, "-S", "-c", lines]


_KEEPS_A_FILE = {
    "keeper": {
        "command": ["sh", "-c", 'printf "%09000d" 7 > "$CROUPIER_STATE/data"; touch "$CROUPIER_STATE/ready"; sleep 99'],
        "ready": {"file": {"path": "${state}/ready"}, "every": "20ms"},
    }
}
_WRITES = {
    "writer": {
        "command": program(
            "import os, time\nfile = os.open(os.environ['CROUPIER_STATE'] + '/log', os.O_CREAT | os.O_WRONLY)\n"
            "while True: os.pwrite(file, b'x', 0); time.sleep(0.01)"
        )
    }
}
_WAITS = {"waiter": {"command": [sys.executable, "-c", "import time\nwhile True: time.sleep(0.02)"]}}
_WIRED = {
    "networks": {"lan": {"names": {}}},
    "processes": {
        "waiter": {**_WAITS["waiter"], "network": "lan"},
        "other": {**_WAITS["waiter"], "network": "lan"},
    },
}
_FRONT = {"proxies": {"front": {"to": "unix:HERE/real.sock", "listen": "unix:HERE/front.sock"}}}
_SUSPENDED = {"suspend": {"for": FOR}}
_LIMITED = {"limit": {"nofile": 16, "for": FOR}}

FIXTURES: dict[str, tuple[Fixture, ...]] = {
    "kill": (Fixture({"kill": {"signal": "USR1", "then": "KILL", "grace": "100ms"}}),),
    "suspend": (
        Fixture({"suspend": {"for": FOR, "tree": True}}),
        Fixture({"suspend": {"for": FOR, "how": "freezer", "tree": True}}),
        Fixture({"suspend": {"for": FOR, "duty": {"on": "50ms", "off": "50ms"}}}),
    ),
    "starve_cpu": (
        Fixture({"starve_cpu": {"for": FOR, "how": "quota"}}),
        Fixture({"starve_cpu": {"for": FOR, "how": "duty"}}),
        Fixture({"starve_cpu": {"for": FOR, "load": 50}}),
        Fixture({"starve_cpu": {"for": FOR, "cores": 1}}),
    ),
    "limit": (Fixture({"limit": {"nofile": 16, "core": "0B", "tree": True, "for": FOR}}),),
    "exhaust_fds": (Fixture({"exhaust_fds": {"for": FOR}}),),
    "fork_storm": (Fixture({"fork_storm": {"processes": 8, "for": FOR}}),),
    "starve_memory": (
        Fixture({"starve_memory": {"percent": 300, "for": FOR}}),
        Fixture({"starve_memory": {"percent": 300, "how": "rlimit", "for": FOR}}),
        Fixture({"starve_memory": {"percent": 300, "pressure": "1MB", "for": FOR}}),
    ),
    "gc_pressure": (
        Fixture({"gc_pressure": {"every": "50ms", "for": FOR}}, {"processes": _WAITS}, target="waiter"),
    ),
    "clock": (Fixture({"clock": {"ahead": "1h", "for": FOR}}, {"processes": _WAITS}, target="waiter"),),
    "occupy_port": (Fixture({"occupy_port": {"port": "${port.free}", "for": FOR}}),),
    "slow_io": (
        Fixture({"slow_io": {"of": ["write"], "delay": "20ms", "for": FOR}}, {"processes": _WRITES}, target="writer"),
    ),
    "partition": (Fixture({"partition": {"from": ["other"], "for": FOR}}, _WIRED, target="waiter"),),
    "packets": (Fixture({"packets": {"delay": "20ms", "for": FOR}}, _WIRED, target="waiter"),),
    "saturate": (Fixture({"saturate": {"rate": "64KiB", "for": FOR}}, _WIRED, target="waiter"),),
    "dns": (Fixture({"dns": {"names": "*", "for": FOR}}, _WIRED, target="waiter"),),
    "fill_disk": (
        Fixture({"fill_disk": {"path": "${volume.small}", "for": FOR}}, {"volumes": {"small": {"size": "1MB"}}}),
    ),
    "corrupt": (
        Fixture(
            {"corrupt": {"path": "${state}/data", "do": "flip", "bits": 9, "for": FOR}},
            {"processes": _KEEPS_A_FILE}, ("STATE/data",),
        ),
        Fixture(
            {"corrupt": {"path": "${state}/data", "do": "lose", "for": FOR}},
            {"processes": _KEEPS_A_FILE}, ("STATE/data",),
        ),
    ),
    "corrupt_cache": (
        Fixture(
            {"corrupt_cache": {"path": "${state}/data", "do": "truncate", "for": FOR}},
            {"processes": _KEEPS_A_FILE}, ("STATE/data",),
        ),
    ),
    "syscall": (
        Fixture({"syscall": {"call": "any", "do": "delay", "delay": "20ms", "for": FOR}}, {"processes": _WRITES},
                target="writer"),
        Fixture({"syscall": {"call": "any", "do": "freeze", "for": FOR}}, {"processes": _WRITES}, target="writer"),
    ),
    "network": (
        Fixture({"network": {"proxy": "front", "latency": "30ms", "for": FOR}}, _FRONT, asks=True),
        Fixture({"network": {"proxy": "front", "cut": "partition", "for": FOR}}, _FRONT, asks=True),
    ),
    "delay_queries": (
        Fixture({"delay_queries": {"proxy": "front", "least": "20ms", "most": "40ms", "for": FOR}}, _FRONT, asks=True),
    ),
    "lock_database": (
        Fixture({"lock_database": {"sqlite": "HERE/app.db", "for": FOR}}, files=("HERE/app.db",)),
    ),
    "mutate": (Fixture({"mutate": {"proxy": "front", "how": "flip", "for": FOR}}, _FRONT, asks=True),),
    "together": (Fixture({"together": [_SUSPENDED, {**_LIMITED, "after": "100ms"}]}),),
    "sequence": (Fixture({"sequence": [{"suspend": {"for": "200ms"}}, {**_LIMITED, "after": "50ms"}]}),),
}  # fmt: skip
"""One or several for each kind of FAULTS."""

_BY_SYSTEMD = "units need a systemd: tests/edges/test_inject_units.py has one of its own"
_BY_DOCKER = "containers need a Docker: tests/edges/test_inject_containers.py has one of its own"
_BY_KUBECTL = "pods and nodes need a cluster: tests/edges/test_inject_clusters.py, against a recorded one"

ELSEWHERE: dict[str, str] = {
    "drop_connections": "it needs a PostgreSQL, and leaves nothing to undo",
    **dict.fromkeys(("kill_unit", "freeze_unit", "stop_unit", "restart_unit", "limit_unit"), _BY_SYSTEMD),
    **dict.fromkeys(
        ("kill_container", "pause_container", "stop_container", "limit_container", "exec_in_container"), _BY_DOCKER
    ),
    **dict.fromkeys(("delete_pod", "kill_in_pod", "cordon_node", "drain_node"), _BY_KUBECTL),
}
"""Faults that no fixture can be made for on one machine, and why: a cluster, say. The table says so in their row."""
