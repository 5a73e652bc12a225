"""`croupier explore FILE`: one process of several is killed at each of its calls, in rounds of their own."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from croupier.store.searches import SearchDir, find_search
from croupier.trace import lacks

from .house import House, a_process, an_experiment, app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or bool(lacks("seccomp")), reason=lacks("seccomp") or "not Linux"),
]


def keeping(*more: str, **parts: Any) -> dict[str, Any]:
    """Two processes, one of which saves what a workload gives it."""
    keeper = a_process(
        app("keeper", "${port.keeper}", "${state}/lines.json", *more),
        ready={"tcp": {"port": "${port.keeper}"}, "every": "20ms"},
    )
    lost = {"run": app("keeper_client", "check", "${port.keeper}", "${acks}"), "name": "nothing acknowledged is lost"}
    return an_experiment(
        processes={"keeper": keeper, "other": a_process(["sleep", "300"])},
        workload={"command": app("keeper_client", "load", "${port.keeper}")},
        steady_state=[{"tcp": {"port": "${port.keeper}"}}],
        **{"invariants": [{"command": lost}], **parts},
    )


def searched(house: House, what: dict[str, Any], *flags: str) -> tuple[int, dict[str, Any], SearchDir]:
    done = house.croupier("explore", house.write(what), "--json", "--out", house.out, *flags, within_s=110)
    assert done.out.startswith("{"), done.said
    result = json.loads(done.out)
    return done.code, result, find_search(result["run"], house.out)


def test_what_a_live_round_loses_is_found_confirmed_and_replayed(house: House) -> None:
    code, result, found = searched(house, keeping(), "--process", "keeper", "--budget", "4", "--jobs", "2")
    assert (code, result["verdict"]) == (1, "violated"), result
    group = result["groups"][0]
    assert "`lines.json` is emptied before it is written again" in group["cause"]
    assert group["confirmed"] is True
    finding = next(one for one in result["findings"] if one["id"] == group["first"])
    assert finding["before"]["operation"] == "write"
    assert "acknowledged items are lost" in finding["reason"]
    assert result["left_out"] == result["crash_points"] - 4
    assert "live rounds" in result["level"]
    assert found.report.exists()
    kept = list((found.path / "rounds").glob("*/*/journal.jsonl"))
    assert kept, "the round of a finding can be looked at"
    again = house.croupier("replay", f"{found.path}/{group['first']}", within_s=60)
    assert again.code == 1, again.said
    assert "the check fails again" in again.out


def test_a_program_that_saves_aside_is_accused_of_nothing(house: House) -> None:
    code, result, found = searched(house, keeping("--safe"), "--process", "keeper", "--budget", "3", "--jobs", "2")
    assert (code, result["verdict"], result["findings"]) == (0, "held", []), result
    assert {one["name"]: one["held"] for one in result["self_checks"]} == {
        "the processes changed files": True,
        "the invariants hold where nothing crashed": True,
        "every crash point was reached again": True,
    }
    assert not found.started().setting.check_call


def test_invariants_that_fail_without_a_crash_prove_nothing(house: House) -> None:
    never = {"command": {"run": ["false"], "name": "never"}}
    code, result, _ = searched(house, keeping("--safe", invariants=[never]), "--process", "keeper")
    assert (code, result["verdict"]) == (4, "unknown")
    assert "the invariants hold where nothing crashed" in result["reasons"][0]


def test_a_process_that_changes_no_file_proves_nothing(house: House) -> None:
    code, result, _ = searched(house, keeping("--safe"), "--process", "other")
    assert (code, result["verdict"]) == (4, "unknown")
    assert "no call of other changed a file" in result["reasons"][0]


@pytest.mark.parametrize(
    ("what", "flags", "code", "says"),
    [
        (keeping(), ["--process", "nobody"], 2, "there is no process 'nobody'"),
        (keeping(invariants=[]), [], 2, "promises nothing"),
        (keeping(), ["--torn"], 2, "--torn is for a search of one workload"),
        (keeping(), ["--budget", "many"], 2, "a budget is a time or a number"),
    ],
)
def test_what_cannot_be_searched_is_refused(house: House, what: Any, flags: list[str], code: int, says: str) -> None:
    done = house.croupier("explore", house.write(what), "--out", house.out, *flags)
    assert (done.code, says in done.said) == (code, True), done.said
