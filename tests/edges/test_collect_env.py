"""Secrets never reach the disk; and what is said of the surroundings of a run."""

from __future__ import annotations

import json
import os
import re
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.collect.describe import describe_environment
from croupier.collect.events import clean_event
from croupier.collect.redact import Redactor, environment_digest
from croupier.model import journal as j
from croupier.model.errors import ExperimentError
from croupier.model.secret import hide_credentials, is_secret_name
from croupier.model.target import Identity
from croupier.model.units import read_quantity, write_quantity
from croupier.model.verdict import judge
from sample_journal import STORIES

SECRET_NAMES = [
    "API_KEY", "APIKEY", "aws_secret_access_key", "GITHUB_TOKEN", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "SMTP_PASS",
    "GOOGLE_APPLICATION_CREDENTIALS", "BASIC_AUTH", "SESSION_COOKIE", "SENTRY_DSN", "SSH_PASSPHRASE", "SLACK_WEBHOOK",
    "AZURE_CONNECTION_STRING", "PASS_FILE", "GITHUB_PAT", "PAT", "MY_JWT", "BEARER",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_the_value_of_a_variable_that_sounds_secret_is_taken_out(name: str) -> None:
    assert is_secret_name(name)
    assert Redactor({name: "hunter2-hunter2"}).clean("login with hunter2-hunter2!") == "login with ‹redacted›!"


@pytest.mark.parametrize("name", ["PATH", "HOME", "PWD", "OLDPWD", "LANG", "SHLVL", "TERM", "USER", "DISPLAY", "CI"])
def test_ordinary_variables_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)
    assert Redactor({name: "/home/anna"}).clean("in /home/anna") == "in /home/anna"


def test_what_the_experiment_asked_for_is_secret_whatever_its_name() -> None:
    redactor = Redactor({"LICENSE": "abcd-1234", "OTHER": "efgh-5678"}, used={"LICENSE": "abcd-1234"})
    assert redactor.clean("abcd-1234 efgh-5678") == "‹redacted› efgh-5678"


def test_short_values_are_left_or_no_log_would_be_left() -> None:
    assert Redactor({"USE_KEYRING": "1", "X_TOKEN": "yes"}).clean("1 yes") == "1 yes"


def test_a_longer_secret_goes_as_a_whole() -> None:
    redactor = Redactor({"A_KEY": "abcdef", "B_KEY": "abcdefghijkl"})
    assert redactor.clean("abcdefghijkl") == "‹redacted›"


def test_a_secret_is_known_in_its_other_clothes() -> None:
    redactor = Redactor({"DB_PASSWORD": 'p@ss/"word ä'})
    for text in ('{"password": "p@ss/\\"word \\u00e4"}', "?pw=p%40ss%2F%22word%20%C3%A4", "pw=p%40ss%2F%22word+%C3%A4"):
        assert "word" not in redactor.clean(text).replace("password", "")


def test_a_secret_of_many_lines_is_taken_out_of_each() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    redactor = Redactor({"PRIVATE_KEY": key})
    assert redactor.clean("kqhkiG9w0BAQEF") == "‹redacted›"
    assert redactor.clean(key.strip()) == "‹redacted›"


def test_patterns_of_the_experiment_are_taken_out() -> None:
    redactor = Redactor({}, [r"card \d{4}", r"x*"])
    assert redactor.clean("card 1234, xxx, end") == "‹redacted›, ‹redacted›, end"


def test_a_pattern_that_is_no_regular_expression_is_said_so() -> None:
    with pytest.raises(ExperimentError, match=r"collect\.redact\[1\]"):
        Redactor({}, ["fine", "("])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgres://anna:s3cret@db/notes", "postgres://‹redacted›@db/notes"),
        ("at redis://:s3cret@127.0.0.1:6379, then", "at redis://‹redacted›@127.0.0.1:6379, then"),
        ("https://ghp_token@github.com/x", "https://‹redacted›@github.com/x"),
        ("a postgres://a:b@c/d and mysql://e:f@g/h", "a postgres://‹redacted›@c/d and mysql://‹redacted›@g/h"),
        ("amqp://anna:p@ss@mq/", "amqp://‹redacted›@mq/"),
        ("http://127.0.0.1:8000/health", "http://127.0.0.1:8000/health"),
        ("http://host/?mail=anna@example.org", "http://host/?mail=anna@example.org"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ‹redacted›"),
        ('"authorization": "Basic YTpi"', '"authorization": "Basic ‹redacted›'),
        ("Cookie: session=1234", "Cookie: ‹redacted›"),
        ("push with ghp_abcdef0123456789!", "push with ‹redacted›!"),
        ("eyJhbGciOi.eyJzdWIi.c2ln, then", "‹redacted›, then"),
    ],
)
def test_credentials_that_show_themselves_are_hidden(text: str, clean: str) -> None:
    assert hide_credentials(text) == clean
    assert Redactor({}).clean(text) == clean


@pytest.mark.parametrize(
    "unit", ["a", "://", "a://", "://a", "@", "cookie", "authorization: ", "a.b+c-", "eyJ-", "ghp_"]
)
def test_no_line_is_slow_to_clean(unit: str) -> None:
    line = (unit * 65_536)[:65_536]
    began = time.perf_counter()
    Redactor({"A_KEY": "never there"}).clean(line + "@://")
    assert time.perf_counter() - began < 1


@given(
    secret=st.text(min_size=6).filter(lambda text: len(text.strip()) >= 6 and text.strip() not in "‹redacted›"),
    before=st.text(),
    after=st.text(),
)
def test_no_text_keeps_the_secret(secret: str, before: str, after: str) -> None:
    secret = secret.strip()
    assert secret not in Redactor({"A_TOKEN": secret}).clean(before + secret + after).replace("‹redacted›", "\0")


# The digest, and the description


def the_digest(env: dict[str, str], used: tuple[str, ...] = ()) -> str:
    return environment_digest(env, Redactor(env, used=used))


def test_equal_environments_have_equal_digests_and_others_have_not() -> None:
    one = {"LANG": "1", "TZ": "2"}
    assert the_digest(one) == the_digest(dict(reversed(one.items())))
    others = [{"LANG": "1"}, {"LANG": "2", "TZ": "1"}, {"LANG": "12", "TZ": ""}, {"LANG": "1", "TZ": "2", "C": ""}]
    assert len({the_digest(env) for env in (one, *others)}) == 5
    assert the_digest(one).startswith("sha256:")
    the_digest({"LANG": os.fsdecode(b"\xff")})


def test_a_digest_does_not_help_to_guess_a_value_that_is_not_shown() -> None:
    assert the_digest({"PIN": "1234", "THING": "1"}) == the_digest({"PIN": "9999", "THING": "2"})
    assert the_digest({"TZ": "1234"}, used=("TZ",)) == the_digest({"TZ": "9999"}, used=("TZ",))


@given(st.text(alphabet="ab‹›redacted: =@/", max_size=60))
def test_what_was_cleaned_once_comes_out_the_same(text: str) -> None:
    redactor = Redactor({"A_KEY": "abredb"}, [r"b+", r"red\w*"])
    once = redactor.clean(text)
    assert redactor.clean(once) == once


# Events


def test_every_free_text_of_an_event_is_cleaned_and_what_it_is_found_by_is_not() -> None:
    redactor = Redactor({"A_KEY": "s3cret"})
    who = Identity(pid=1, started=2, boot="s3cret")
    struck = j.Struck(who=who, role="s3cret", name="x s3cret", main=True, rank=0, of=1)
    said = clean_event(j.Intended(injection=1, fault="s3cret", detail="by s3cret", targets=(struck,)), redactor)
    assert (said.fault, said.detail) == ("s3cret", "by ‹redacted›")
    assert said.targets == (msgspec.structs.replace(struck, name="x ‹redacted›"),)
    census = j.CensusTaken(injection=1, when="before", processes=({"pid": 1, "name": "s3cret", "role": "s3cret"},))
    assert clean_event(census, redactor).processes == ({"pid": 1, "name": "‹redacted›", "role": "s3cret"},)
    ended = j.RunEnded(outcome="completed", why="s3cret", unhealed=("s3cret of 1",))
    assert clean_event(ended, redactor) == j.RunEnded(
        outcome="completed", why="‹redacted›", unhealed=("‹redacted› of 1",)
    )
    untouched = j.Noted(text="nothing")
    assert clean_event(untouched, redactor) is untouched


@pytest.mark.parametrize("story", sorted(STORIES))
def test_a_journal_whose_every_word_is_a_secret_can_still_be_read_and_judged(story: str) -> None:
    """What has only a few meanings keeps the one it has: a secret may be the word `landed`."""
    events = STORIES[story]()
    written = "".join(msgspec.json.encode(one, enc_hook=write_quantity).decode() for one in events[:2_000])
    words = sorted(set(re.findall(r"[a-z-]{4,}", written)))
    redactor = Redactor(
        {f"KEY_{nth}": word for nth, word in enumerate(words)}, used=[f"KEY_{nth}" for nth in range(999)]
    )
    lines = [msgspec.json.encode(clean_event(one, redactor), enc_hook=write_quantity) for one in events]
    again = [msgspec.json.decode(line, type=j.AnyEvent, dec_hook=read_quantity) for line in lines]
    before, after = judge(events), judge(again)
    assert (after.verdict, after.landed, after.crashes) == (before.verdict, before.landed, before.crashes)
    assert len(after.recoveries) == len(before.recoveries)


def test_the_description_holds_what_matters_and_no_secret() -> None:
    env = {
        "HOME": "/home/anna",
        "API_KEY": "s3cret-value",
        "SHORT_TOKEN": "x",
        "URL": "postgres://anna:pw@db/",
        "LICENSE": "abcd-1234",
        "ECHO": "the key is s3cret-value",
        "LC_ALL": "the key is s3cret-value",
        "UNHEARD_OF": "who-knows",
        "ODD": os.fsdecode(b"\xff"),
    }
    said = describe_environment(env, Redactor(env, used=["LICENSE"]))
    text = json.dumps(said, ensure_ascii=False)
    text.encode()
    for secret in ("s3cret", ":pw@", "abcd", "who-knows"):
        assert secret not in text
    assert said["variables"]["HOME"] == "/home/anna"
    assert said["variables"]["SHORT_TOKEN"] == said["variables"]["API_KEY"] == "‹redacted›"
    assert said["variables"]["ECHO"] == said["variables"]["UNHEARD_OF"] == "‹redacted›"
    assert said["variables"]["LC_ALL"] == "the key is ‹redacted›"
    assert said["python"]["version"]
    assert said["os"]["kernel"]
    assert said["cpus"] >= 1
    assert said["memory_bytes"] > 1 << 20
    assert "msgspec" in said["versions"]
