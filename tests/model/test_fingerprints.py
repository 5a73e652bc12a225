"""Two fingerprints are compared in words: what is ours and still there, and what of the target is not as it was."""

from __future__ import annotations

import msgspec
import pytest

from croupier.model.fingerprint import FileSeen, Fingerprint, ProcessSeen, Scope, difference
from croupier.model.target import Identity

WHO = Identity(pid=42, started=7, boot="here")
SCOPE = Scope(run="r", run_dir="/runs/r", processes=(WHO,))
SEEN = ProcessSeen(who=WHO, state="runs", limits={"Max open files": "1024 (4096)"}, cgroups=("0::/",))
FILE = FileSeen(kind="file", mode=0o640, owner=(0, 0), size=5, mtime_ns=1, digest="ab" * 32)
BEFORE = Fingerprint(
    scope=SCOPE, boot="here", processes=(SEEN,), files={"/s/data": FILE}, traffic={"this host lo": "noqueue"},
    clock_source="tsc", clock_offset_us=1_000,
)  # fmt: skip


def changed(**fields: object) -> Fingerprint:
    return msgspec.structs.replace(BEFORE, **fields)


def seen(**fields: object) -> Fingerprint:
    return changed(processes=(msgspec.structs.replace(SEEN, **fields),))


def test_nothing_differs_from_itself() -> None:
    assert difference(BEFORE, BEFORE) == ()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (seen(state="stopped"), "pid 42: state was runs, and is stopped"),
        (seen(limits={"Max open files": "16 (4096)"}), "pid 42: Max open files was 1024 (4096), and is 16 (4096)"),
        (seen(cgroups=("0::/croupier-42-7-1",)), "pid 42: cgroups was 0::/, and is 0::/croupier-42-7-1"),
        (seen(traced_by=9), "pid 42: traced by was 0, and is 9"),
        (changed(alive=("pid 9",)), "a process of the round is alive: pid 9"),
        (changed(cells=("/cg/croupier-42-7-1",)), "a cgroup of ours is there: /cg/croupier-42-7-1"),
        (changed(mounts=("/runs/r/volumes/a",)), "a mount of the round is there: /runs/r/volumes/a"),
        (changed(aside=("/runs/r/set-aside/1",)), "a file of ours is there: /runs/r/set-aside/1"),
        (changed(pointer="/home/x"), "a round is still registered: /home/x"),
        (changed(files={}), "/s/data is gone"),
        (changed(files={"/s/data": FILE, "/s/more": FILE}), "/s/more was not there, and is"),
        (changed(files={"/s/data": msgspec.structs.replace(FILE, mode=0o600)}),
         "/s/data: mode was 640, and is 600"),
        (changed(files={"/s/data": msgspec.structs.replace(FILE, digest="cd" * 32)}),
         "/s/data: digest was abababababab, and is cdcdcdcdcdcd"),
        (changed(traffic={"this host lo": "netem"}), "queueing of this host lo was noqueue, and is netem"),
        (changed(rules={"this host": "table"}), "packet filter of this host was empty, and is table"),
        (changed(clock_source="hpet"), "the clock source was tsc, and is hpet"),
        (changed(clock_offset_us=3_600_000_000 + 1_000), "the wall clock was moved by +3600.000 s"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_whatever_differs_is_said_in_words(after: Fingerprint, said: str) -> None:
    assert difference(BEFORE, after) == (said,)
    assert difference(after, after) == ()


def test_what_changes_by_itself_is_no_difference() -> None:
    assert difference(BEFORE, changed(clock_offset_us=900_000)) == ()
    # Its device came with somebody's container.
    assert difference(BEFORE, changed(traffic={"this host lo": "noqueue", "this host veth1": "noqueue"})) == ()
    # A process that has ended did so by the fault, or by itself: the journal tells.
    assert difference(BEFORE, changed(processes=())) == ()


def test_after_a_reboot_only_what_outlives_processes_is_compared() -> None:
    rebooted = msgspec.structs.replace(seen(state="stopped"), boot="another", clock_source="hpet", files={})
    assert difference(BEFORE, rebooted) == ("/s/data is gone",)


def test_a_fingerprint_is_stored_and_read_back() -> None:
    assert msgspec.json.decode(msgspec.json.encode(BEFORE), type=Fingerprint) == BEFORE
