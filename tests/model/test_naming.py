"""A resolver of ours answers what was asked, truly or as a rule wants it, and nothing that is no question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.naming import NameRule, answer, answered, question, question_of

NAMES = {"db": "198.18.0.3", "api.example.com": "198.18.0.4"}


def said(name: str, wrongly: str = "") -> str | None:
    asked = question_of(question(7, name))
    assert asked is not None
    message = answer(asked, NAMES, wrongly)
    return None if message is None else answered(message, 7)


@pytest.mark.parametrize(
    ("name", "wrongly", "expected"),
    [
        ("db", "", "198.18.0.3"),
        ("API.Example.com", "", "198.18.0.4"),
        ("nowhere", "", "nxdomain"),
        ("db", "nxdomain", "nxdomain"),
        ("db", "servfail", "servfail"),
        ("db", "192.0.2.1", "192.0.2.1"),
        ("db", "time_out", None),
    ],
)
def test_a_name_is_answered_for_truly_or_wrongly(name, wrongly, expected):
    assert said(name, wrongly) == expected


def test_a_name_without_an_address_of_that_kind_is_there_all_the_same():
    message = bytearray(question(7, "db"))
    message[-4:-2] = (28).to_bytes(2, "big")
    asked = question_of(bytes(message))
    assert asked is not None
    assert answered(answer(asked, NAMES) or b"", 7) == ""


@given(st.binary(max_size=80))
def test_whatever_comes_is_a_question_or_nothing(message):
    asked = question_of(message)
    assert asked is None or answer(asked, NAMES) is not None


def test_an_answer_to_another_question_is_none():
    asked = question_of(question(7, "db"))
    assert answered(answer(asked, NAMES), 8) is None
    assert answered(question(7, "db"), 7) is None


def test_a_rule_holds_for_its_names_its_clients_and_its_time():
    rule = NameRule(key="1", pattern="*.example.com", answer="servfail", clients=("198.18.0.3",), until_us=100)
    assert rule.holds_for("api.example.com", "198.18.0.3", 99)
    assert not rule.holds_for("example.com", "198.18.0.3", 99)
    assert not rule.holds_for("api.example.com", "198.18.0.4", 99)
    assert not rule.holds_for("api.example.com", "198.18.0.3", 100)
