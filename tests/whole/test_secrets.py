"""Secrets never reach the disk: planted in every place of a round, none is found in what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from croupier.model import journal as j

from .house import House, a_process, an_experiment, python

# No prefix of one is another; none looks like a secret by itself, but for the last two.
USED = {f"PLANTED_{nth}": f"plnt{nth:02}x-{nth * 7919:06}-zq" for nth in range(20)}
NAMED = {
    "DB_PASSWORD": "hunter2 &/hunter2",
    "SERVICE_PAT": "patpatpat-0815",
    "SESSION_JWT": "jwtjwtjwt-4711",
    "INNOCENT_NAME": "nobody-guesses-this-one",
    "ALSO_INNOCENT": "ghp_abcdefghij0123456789",
    "EMPLOYEE": "eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "DATABASE": "postgres://anna:drowssap-in-url@127.0.0.1/db",
}
# What a program prints of its own accord is known by the variable's name, or by its look; of no other place is it so.
PRINTED = [name for name in NAMED if name != "INNOCENT_NAME"]


def a_leaky_experiment() -> dict[str, Any]:
    """Every kind of place that takes a reference, and programs that print whatever they know."""
    ref = [f"${{env.PLANTED_{nth}}}" for nth in range(20)]
    prints = f"import os, sys, time\nfor one in {[*PRINTED, *USED]!r}: print(os.environ.get(one), flush=True)\n"
    fails = "import sys; print('refused', *sys.argv[1:]); sys.exit(3)"
    ready = {"command": {"run": ["true", ref[0]]}}
    app = a_process(
        [*python(f"{prints}print(sys.argv, file=sys.stderr, flush=True)\ntime.sleep(300)"), ref[1]],
        env={"GIVEN": ref[2]},
        ready=ready,
        alive={"command": {"run": ["true", ref[3]]}},
    )
    cannot = a_process([f"/nowhere/{ref[4]}"], restart={"when": "never"})
    return an_experiment(
        processes={"app": app},
        workload={"command": [*python(f"{prints}time.sleep(300)"), ref[5]], "env": {"GIVEN": ref[6]}},
        steady_state=[{"command": {"run": ["true", ref[7]]}}],
        steady_within="500ms",
        abort_when=[{"probe": {"command": {"run": [*python(fails), ref[10]]}, "failing_for": "20s"}}],
        injections=[
            {"at": "100ms", "kill": {}, "target": {"name": f"nobody-{ref[11]}"}},
            {"at": "200ms", "kill": {"ask": [*python(fails), ref[12]], "grace": "200ms"}, "target": {"process": "app"}},
            {"at": "900ms", "suspend": {"for": "100ms"}, "target": {"process": "app"}},
        ],
        invariants=[
            {"command": {"run": [*python(fails), ref[13]]}},
            {"http": {"url": f"http://127.0.0.1:1/{ref[8]}", "headers": {"X-Mine": ref[9]}}},
            {"file": {"path": f"no/{ref[14]}"}},
            {"log": {"process": "app", "match": f"never {ref[15]}"}},
            {"acks": {"found": [*python(fails), ref[16]]}},
            {"sqlite": {"path": f"{ref[17]}.db", "integrity": "ok"}},
            {"restarts": {"of": "app", "at_most": 9, "name": "restarts"}},
        ],
    ) | {"_cannot": cannot}


def used_in(whole: dict[str, Any]) -> dict[str, str]:
    """The variables that an experiment refers to."""
    text = json.dumps(whole)
    return {name: value for name, value in USED.items() if f"${{env.{name}}}" in text}


def everything_below(*folders: Path) -> dict[str, bytes]:
    """Each file, and the names of all, in one look."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[str(path)] = path.read_bytes()
    return found


def leaks(files: dict[str, bytes], secrets: dict[str, str]) -> list[str]:
    """Which secret stands where, as it is or in other clothes."""
    every = {
        name: {value, json.dumps(value)[1:-1], quote_plus(value), value.partition("://")[2].partition("@")[0] or value}
        for name, value in secrets.items()
    }
    return [
        f"{name} in {path}: {content[max(0, content.find(form.encode()) - 80) :][:160]!r}"
        for path, content in files.items()
        for name, forms in every.items()
        for form in forms
        if form.encode() in content
    ]


@pytest.mark.parametrize("starts", [True, False], ids=["plays", "cannot start"])
def test_no_secret_is_left_behind_by_a_round(house: House, starts: bool) -> None:
    whole = a_leaky_experiment()
    cannot = whole.pop("_cannot")
    if not starts:
        whole["processes"]["broken"] = cannot
    argv_secret = "given-by-hand-99"
    file = house.write(whole, f"experiment {argv_secret}.yaml")
    secrets = {**used_in(whole), **NAMED, "CLI_TOKEN": argv_secret}
    played = house.play(file, "--max-injections", "9", env=secrets)
    assert played.code in (1, 4), played.done
    if starts:
        assert played.results() == ["missed", "landed", "landed"]
        assert {one.held for one in played.events(j.InvariantRead)} >= {False}
    # The page can be made again, and says no more then.
    assert house.croupier("report", played.stored.path, env=secrets).code == 0
    files = everything_below(played.stored.path, house.path / "xdg")
    assert leaks(files, secrets) == []
    # It was there to be found: the programs did print, and the labels are the file's.
    assert "‹redacted›" in played.stored.log or not starts
    assert any(one.probe == "command true ${env.PLANTED_0}" for one in played.events(j.ProbeRead)) or not starts
    assert any("‹redacted›" in one for one in played.events(j.RunStarted)[0].argv)


def test_nothing_is_written_of_a_round_that_runs_either(house: House) -> None:
    whole = a_leaky_experiment()
    del whole["_cannot"]
    whole["injections"] = [{"at": "100ms", "suspend": {"for": "20s"}, "target": {"process": "app"}}]
    secrets = {**used_in(whole), **NAMED}
    playing = house.begin(whole, env=secrets)
    playing.until(j.Concluded)
    files = everything_below(playing.stored.path, house.path / "xdg")
    assert any(path.endswith("running.json") for path in files)
    assert leaks(files, secrets) == []
    assert house.croupier("halt").code == 0
    playing.wait()


def test_only_what_is_known_to_be_harmless_is_shown_of_the_environment(house: House) -> None:
    played = house.play(an_experiment(injections=[]), env={"TZ": "Europe/Oslo", "MY_THING": "whatever"})
    said = json.loads((played.stored.path / "artifacts" / "environment.json").read_text())["variables"]
    assert (said["TZ"], said["MY_THING"]) == ("Europe/Oslo", "‹redacted›")
