"""Combinations: several faults that are one injection."""

from __future__ import annotations

import pytest

from croupier.load import load_text
from croupier.model.errors import ExperimentError
from croupier.model.experiment import Limits
from croupier.model.fault import Kill, Suspend
from croupier.model.faults.combined import Part, Sequence, Together, single
from croupier.model.guard import Permit, Standing, consider, joined
from croupier.model.plan import At, Injection
from croupier.model.target import Identity, Seen, Selector
from croupier.model.units import Ms
from croupier.registry import built_in

STILL = Suspend(for_ms=Ms(1_000))
SHORT = Suspend(for_ms=Ms(200))
FILE = """
version: 1
title: both
hypothesis: It comes back.
processes: {{app: {{command: [sleep, "9"]}}, web: {{command: [sleep, "9"]}}}}
injections: [{{at: 1s, target: {{process: app}}, {fault}}}]
invariants: [{{recovery: {{of: app, every: "< 5s"}}}}]
"""


def loaded(fault):
    return load_text(FILE.format(fault=fault).encode(), "x.yaml", built_in()).experiment.injections[0].fault


def test_together_lasts_until_its_last_part_is_over():
    both = Together(of=(Part(fault=STILL), Part(fault=SHORT, after_ms=Ms(1_500))))
    assert (both.lasting_ms, both.busy_ms) == (1_700, 1_500)
    assert not both.ends
    assert Together(of=(Part(fault=STILL), Part(fault=Kill()))).ends


def test_a_sequence_is_busy_until_its_last_part_and_lasts_as_long_as_that():
    steps = Sequence(of=(Part(fault=STILL), Part(fault=SHORT, after_ms=Ms(100))))
    assert (steps.busy_ms, steps.lasting_ms) == (1_100, 200)


def test_what_acts_at_once_and_leaves_nothing_lasts_no_time_together():
    assert Together(of=(Part(fault=Kill()), Part(fault=Kill(), after_ms=Ms(500)))).lasting_ms == 0


def test_a_combination_is_written_as_a_list():
    fault = loaded("together: [{suspend: {for: 1s}}, {kill: {}, target: {process: web}, after: 100ms}]")
    assert fault == Together(
        of=(Part(fault=STILL), Part(fault=Kill(), target=Selector(process="web"), after_ms=Ms(100)))
    )
    assert single(fault) == (STILL, Kill())
    assert single(STILL) == (STILL,)
    assert str(fault) == "together (suspend (for 1s); kill on web)"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("together: []", "list of faults"),
        ("together: {suspend: {for: 1s}}", "expected a list"),
        ("sequence: [{target: {process: web}}]", "there is no fault here"),
        ("sequence: [{kill: {}, suspend: {for: 1s}}]", "are 2 faults"),
        ("together: [{together: [{kill: {}}]}]", "a combination holds no combinations"),
        ("together: [{kill: {}, target: {process: nobody}}]", "nobody"),
    ],
)
def test_what_is_no_combination_is_said_where_it_stands(fault, says):
    with pytest.raises(ExperimentError, match=says):
        loaded(fault)


def a_seen(pid, role):
    who = Identity(pid=pid, started=pid)
    return Seen(identity=who, parent=1, name=role, state="S", order=pid, role=role, main=True, ours=True)


def test_one_permit_covers_whom_its_parts_cover_and_nobody_else():
    census = (a_seen(11, "app"), a_seen(12, "web"), a_seen(13, "other"))
    whole = Injection(number=1, trigger=At(at_ms=0), fault=STILL, target=Selector(process="app"), lot=7)
    permits = []
    for role in ("app", "web", "app"):
        part = Injection(number=1, trigger=At(at_ms=0), fault=STILL, target=Selector(process=role), lot=7)
        permit = consider(part, census, Limits(), Standing(now_ms=0))
        assert isinstance(permit, Permit)
        permits.append(permit)
    one = joined(whole, permits)
    assert [seen.role for seen in one.targets] == ["app", "web"]
    assert one.parts == tuple(permits)
    assert len(one.ranks) == 2
    assert one.below(Identity(pid=13, started=13), census).free == ()
