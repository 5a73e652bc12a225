"""Rounds played from Python: whoever calls goes on, so a round leaves no thread, descriptor or process behind."""

from __future__ import annotations

import gc
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hands import eventually

from croupier.inject import Healing
from croupier.load import Loaded, load_experiment
from croupier.model import journal as j
from croupier.model.errors import CroupierError, HarnessError
from croupier.model.plan import draw_plan
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord
from croupier.model.verdict import judge
from croupier.registry import catalogue
from croupier.run import Finished, Options, host, run_round
from croupier.run.floor import MOST_ALIKE
from croupier.run.host import LiveHost
from croupier.run.round import Round
from croupier.store import RunDir
from croupier.system import procs

KNOWN = catalogue(())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks into the home of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def loaded(tmp_path: Path, **parts: Any) -> Loaded:
    """A short round without injections."""
    whole = {
        "version": 1,
        "title": "tiny",
        "hypothesis": "It stays.",
        "processes": {"app": {"command": ["sleep", "300"], "stop": {"grace": "200ms"}}},
        "steady_state": [{"process": {"of": "app", "at_least": at_least}} for at_least in (0, 1)],
        "invariants": [{"process": {"of": "app", "at_least": 1}}],
        "injections": [{"at": "50ms", "kill": {}, "target": {"name": "nobody of that name"}}],
        "settle": "1s",
    } | parts
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(whole))
    return load_experiment(file, KNOWN)


def play(experiment: Loaded, tmp_path: Path, **more: Any) -> Finished:
    """Its one round."""
    return run_round(
        experiment, draw_plan(experiment.experiment, 1), KNOWN, Options(out=str(tmp_path / "runs")), **more
    )


def held() -> tuple[int, int, int]:
    """How many threads, descriptors and children this process has, beside what an exception still holds."""
    gc.collect()
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), len(procs.children(os.getpid()))


def test_a_round_gives_everything_back(tmp_path: Path) -> None:
    experiment = loaded(tmp_path)
    play(experiment, tmp_path)
    before = held()
    play(experiment, tmp_path)
    assert eventually(lambda: held() <= before or None), (held(), before)


def test_a_round_that_cannot_be_set_up_leaves_no_guardian(tmp_path: Path) -> None:
    play(loaded(tmp_path), tmp_path)
    before = held()
    process = {"command": ["sleep", "9"], "ready": {"heartbeat": {"every": "1s", "socket": True, "path": "x" * 150}}}
    with pytest.raises(CroupierError, match="path of a socket"):
        play(loaded(tmp_path, processes={"app": process}), tmp_path)
    assert eventually(lambda: held() <= before or None), (held(), before)


@pytest.mark.parametrize("what", ["began", "listen", "verdict"])
def test_a_disk_that_refuses_is_told_as_our_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    if what == "verdict":
        monkeypatch.setattr(RunDir, "write_verdict", refuse)
    with pytest.raises(HarnessError, match="No space left"):
        play(loaded(tmp_path), tmp_path, **({} if what == "verdict" else {what: refuse}))


def test_remarks_of_one_kind_do_not_fill_the_journal_and_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Round._open

    def open_and_complain(self: Round) -> None:
        for nth in range(5_000):
            self.floor.note(f"the guardian healed 1.{nth}, which was overdue", trouble=True)
        opened(self)

    monkeypatch.setattr(Round, "_open", open_and_complain)
    finished = play(loaded(tmp_path), tmp_path)
    notes = [one.text for one in finished.run.events() if isinstance(one, j.Noted)]
    assert sum("overdue" in one for one in notes) == MOST_ALIKE + 1
    assert f"and {5_000 - MOST_ALIKE} more like this one: the guardian healed #.#, which was overdue" in notes
    assert len(judge(finished.run.events()).reasons) < MOST_ALIKE + 10


def test_a_heal_that_hangs_is_left_behind_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "HEAL_WITHIN_S", 0.05)
    released = threading.Event()

    class Hangs:
        def heal(self, record: UndoRecord) -> Healing:
            released.wait(10)
            return Healing(verified=True, note="")

    class Knows:
        def injector(self, fault: str) -> Hangs:
            return Hangs()

    record = UndoRecord(key="1.1", fault="hang", who=Identity(pid=1, started=1), deadline_us=0)
    healing = LiveHost(Knows()).heal(record)  # type: ignore[arg-type]
    released.set()
    assert not healing.verified
    assert "not undone within" in healing.note
