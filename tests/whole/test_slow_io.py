"""A slow disk that is one process's: calls take their time, or hang, and go on as always afterwards."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from croupier.inject import slow_io
from croupier.model import journal as j
from croupier.model.faults.syscall import SlowIo
from croupier.model.units import Bytes, Ms
from croupier.system import call_rules
from croupier.testing import check_fault
from croupier.trace import lacks

from .house import House, Played, a_process, an_experiment, python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or bool(lacks("seccomp")), reason=lacks("seccomp") or "not Linux"),
]
# Says of each kind of call how long it took, in ms.
WORKS = (
    "import os, time\n"
    "print('up', flush=True)\n"
    "def took(word, work):\n"
    "    began = time.perf_counter(); work(); print(word, int((time.perf_counter() - began) * 1000), flush=True)\n"
    "slow, other = (os.open(name, os.O_RDWR | os.O_CREAT) for name in ('slow.db', 'other.db'))\n"
    "while True:\n"
    "    took('write', lambda: os.pwrite(slow, b'x' * 10000, 0))\n"
    "    took('read', lambda: os.pread(slow, 10000, 0))\n"
    "    took('sync', lambda: os.fdatasync(slow))\n"
    "    took('other', lambda: os.pwrite(other, b'x', 0))\n"
    "    time.sleep(0.005)\n"
)
WORDS = ("write", "read", "sync", "other")


def play(house: House, *faults: dict[str, Any], lasts: str = "1s") -> Played:
    ready = {"log": {"process": "app", "match": "^up"}, "every": "20ms"}
    injections = [
        {"at": "50ms", "slow_io": {"for": lasts, **options}, "target": {"process": "app"}} for options in faults
    ]
    processes = {"app": a_process(python(WORKS), cwd="${state}", ready=ready)}
    more = {"limits": {"concurrent": 9}, "workload": {"command": ["sleep", "1.5"]}}
    return house.play(an_experiment(processes=processes, injections=injections, **more))


def turns(played: Played) -> list[dict[str, int]]:
    """How long each call took, in ms, for every turn of the program that was seen whole."""
    rows = [line.split()[-2:] for line in played.stored.log.splitlines()]
    told = [(word, int(ms)) for word, ms in (row for row in rows if len(row) == 2) if word in WORDS]
    return [dict(told[at : at + len(WORDS)]) for at in range(0, len(told) - len(WORDS) + 1, len(WORDS))]


def test_what_is_named_takes_its_time_and_nothing_else_does(house: House) -> None:
    # 10000 bytes at 100000 a second, and each sync a tenth of a second later.
    slow = {"of": "write", "bandwidth": "100KB", "path": "slow*"}, {"of": "sync", "delay": "100ms"}
    played = play(house, *slow)
    assert played.results() == ["landed", "landed"], played.done.said
    wrong = [one for one in turns(played) if min(one["write"], one["sync"]) >= 90]
    assert len(wrong) >= 2
    assert min(one["read"] for one in wrong) < 90, "a kind that is not meant"
    assert min(one["other"] for one in wrong) < 90, "a file that is not meant"


def test_so_many_calls_a_second_are_done_and_no_more(house: House) -> None:
    played = play(house, {"of": "read", "per_second": 5})
    assert played.results() == ["landed"], played.done.said
    assert sum(one["read"] >= 150 for one in turns(played)) >= 2


def test_a_call_that_hangs_goes_on_when_it_is_healed(house: House) -> None:
    played = play(house, {"hang": True, "path": "slow.db"})
    assert played.results() == ["landed"], played.done.said
    seen = turns(played)
    assert max(ms for one in seen for ms in one.values()) >= 600
    assert len(seen) >= 2, "it went on"
    (healed,) = played.events(j.Healed)
    assert healed.verified


def test_what_nobody_calls_is_missed(house: House) -> None:
    played = play(house, {"path": "nothing", "delay": "50ms"}, lasts="200ms")
    assert played.results() == ["missed"], played.done.said


def test_it_says_what_it_is() -> None:
    rules = ["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little"]
    fault = SlowIo(for_ms=Ms(1_000), delay_ms=Ms(10))
    assert check_fault(slow_io.INJECTOR, fault=fault, only=rules) == tuple(rules)
    assert "it slows nothing" in slow_io.INJECTOR.lacking(SlowIo(for_ms=Ms(1_000)))


def test_a_debt_of_less_than_a_millisecond_is_paid_by_a_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_rules, "now_us", lambda: 5_000_000)
    fault = SlowIo(for_ms=Ms(1_000), bandwidth_bytes=Bytes(1_000_000))
    rule = call_rules.Rule(key="1.1", top=None, fault=fault, kill=lambda who: False)  # type: ignore[arg-type]
    assert [rule.waits_ms(400) for _ in range(5)] == [0, 0, 1, 1, 2]
    assert (rule.seen, rule.hits) == (5, 3)
