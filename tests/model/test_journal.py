"""The journal's events: each reads back as it was written, and a line that was cut is known to be cut."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from croupier.model import journal
from croupier.model.journal import AnyEvent, Event
from croupier.model.target import Identity

EVENTS: tuple[type[Event], ...] = get_args(AnyEvent)
DECODER = msgspec.json.Decoder(AnyEvent)

texts = st.text(max_size=20)
numbers = st.integers(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
free = st.dictionaries(texts, values, max_size=3)
whos = st.builds(Identity, pid=numbers, started=numbers, boot=texts)
struck = st.builds(journal.Struck, who=whos, role=texts, name=texts, main=st.booleans(), rank=numbers, of=numbers)
# What JSON can say and gives back unchanged; other types are drawn as they are declared.
DRAWN: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: numbers,
    int | None: st.none() | numbers,
    float: st.floats(allow_nan=False, allow_infinity=False),
    Identity: whos,
    dict[str, Any]: free,
    tuple[dict[str, Any], ...]: st.lists(free, max_size=3).map(tuple),
    tuple[journal.Struck, ...]: st.lists(struck, max_size=3).map(tuple),
}


def of(event: type[Event]) -> st.SearchStrategy[Event]:
    """Every value that an event can have."""
    fields = msgspec.structs.fields(event)
    return st.builds(event, **{one.name: DRAWN.get(one.type, st.from_type(one.type)) for one in fields})


everything = st.one_of(*(of(event) for event in EVENTS))


def test_the_set_of_events_is_closed_and_complete():
    written = {
        kind
        for _, kind in inspect.getmembers(journal, inspect.isclass)
        if issubclass(kind, Event) and kind is not Event
    }
    assert set(EVENTS) == written


def test_every_event_has_a_tag_of_its_own():
    tags = [event.__struct_config__.tag for event in EVENTS]
    assert len(set(tags)) == len(tags)
    assert all(event.__struct_config__.tag_field == "event" for event in EVENTS)


def test_the_tags_are_these_and_old_journals_rely_on_them():
    assert sorted(str(event.__struct_config__.tag) for event in EVENTS) == [
        "acknowledged", "call-reached", "call-released", "census", "child-appeared", "child-gone", "disturbed", "due",
        "guard", "heal-intended", "healed", "injected", "intended", "invariant", "invariant-asked", "not-recovered",
        "note", "phase", "probe-read", "process-exited", "process-ready", "process-started", "process-state",
        "promised", "recovered", "refused", "run-ended", "run-started", "sample", "state-seen", "steady-state",
        "stop-asked", "workload-ended", "workload-started",
    ]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_says_what_it_means_and_when(event):
    assert event.__doc__ and event.__doc__ != Event.__doc__
    assert "at_us" in event.__struct_fields__
    assert event.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("event", EVENTS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_event_reads_back_as_it_was_written(event, data):
    written = data.draw(of(event))
    line = msgspec.json.encode(written)
    assert b"\n" not in line
    back = DECODER.decode(line)
    assert (type(back), back) == (event, written)
    assert msgspec.json.encode(back) == line


@settings(max_examples=60)
@given(everything)
def test_a_line_cut_at_any_byte_is_known_to_be_cut(written):
    line = msgspec.json.encode(written)
    for length in range(len(line)):
        with pytest.raises(msgspec.DecodeError):
            DECODER.decode(line[:length])


def test_a_line_cut_within_a_character_is_known_to_be_cut():
    line = msgspec.json.encode(journal.Noted(text='naïve – ☃ \U0001f600 "quoted" \\ \n'))
    for length in range(len(line)):
        with pytest.raises(msgspec.DecodeError):
            DECODER.decode(line[:length])
    assert DECODER.decode(line + b"\n") == DECODER.decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"event":"nope"}',
        b'{"event":"note"}',
        b'{"event":"note","text":1}',
        b'{"event":"note","text":"x","extra":1}',
        b'{"event":"phase","phase":"lunch"}',
        b'{"text":"x"}',
        b'{"event":"note","text":"x"}{"event":"note","text":"y"}',
        b"\x00" * 40,
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_event_is_refused(line):
    with pytest.raises(msgspec.DecodeError):
        DECODER.decode(line)


def test_what_is_as_always_takes_no_room():
    exited = journal.ProcessExited(at_us=5, process="web", who=Identity(pid=7, started=9), cause="own", code=0)
    told = msgspec.json.decode(msgspec.json.encode(exited))
    assert told == {
        "event": "process-exited", "at_us": 5, "process": "web", "who": {"pid": 7, "started": 9}, "cause": "own",
        "code": 0,
    }  # fmt: skip
