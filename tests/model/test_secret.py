"""What counts as a secret, and what of a text is hidden."""

from __future__ import annotations

import pytest

from croupier.model.secret import HIDDEN, hide_credentials, is_harmless_name, is_secret_name


@pytest.mark.parametrize("name", ["API_KEY", "GITHUB_TOKEN", "PGPASSWORD", "DB_PASS", "SENTRY_DSN", "MY_PAT", "PIN"])
def test_a_name_that_tells_of_a_secret_is_taken_for_one_and_never_shown(name: str) -> None:
    assert is_secret_name(name)
    assert not is_harmless_name(name)


@pytest.mark.parametrize("name", ["PATH", "LANG", "LC_ALL", "PYTHONPATH", "XDG_STATE_HOME", "CI"])
def test_what_is_known_to_be_harmless_is_shown(name: str) -> None:
    assert is_harmless_name(name)


def test_directories_and_what_nobody_knows_are_no_secrets_and_only_the_former_are_shown() -> None:
    assert not any(map(is_secret_name, ("PWD", "OLDPWD", "SOMETHING")))
    assert is_harmless_name("PWD") and not is_harmless_name("SOMETHING")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgres://me:pw@db/app", f"postgres://{HIDDEN}@db/app"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {HIDDEN}"),
        ("cookie: session=1", f"cookie: {HIDDEN}"),
        ("it said ghp_0123456789abcdef to us", f"it said {HIDDEN} to us"),
        ("mail me@home, see http://home/", "mail me@home, see http://home/"),
    ],
)
def test_credentials_that_show_themselves_are_hidden_and_the_rest_stays(text: str, hidden: str) -> None:
    assert hide_credentials(text) == hidden
    assert hide_credentials(hidden) == hidden, "what was cleaned once comes out the same"
