"""Redaction: secrets never reach the disk. And a digest that tells equal environments without holding them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from urllib.parse import quote, quote_plus

from ..model.errors import ExperimentError
from ..model.secret import HIDDEN, hide_credentials, is_harmless_name, is_secret_name

_SHORTEST = 6
"""Characters of a value below which it is not looked for: taking every `1` out of a log would leave no log."""
_SHORTEST_USED = 4


class Redactor:
    """Takes secrets out of texts. Thread-safe, since it never changes."""

    def __init__(self, env: Mapping[str, str], patterns: Iterable[str] = (), *, used: Iterable[str] = ()) -> None:
        """`used` names the variables that the experiment asked for by `${env.NAME}`: their values are secret as well.

        Raises ExperimentError for a pattern that is no regular expression.
        """
        self._used = frozenset(used)
        forms: set[str] = set()
        for name, value in env.items():
            if self.hides(name):
                shortest = _SHORTEST_USED if name in self._used else _SHORTEST
                forms |= {form for form in _forms(value) if len(form) >= shortest}
        # Longest first: a secret that holds another one goes as a whole.
        self._secrets = sorted(forms, key=lambda one: (-len(one), one))
        self._patterns = [_compiled(nth, pattern) for nth, pattern in enumerate(patterns)]

    def hides(self, name: str) -> bool:
        """Whether the value of that variable is a secret."""
        return name in self._used or is_secret_name(name)

    def shows(self, name: str) -> bool:
        """Whether the value of that variable may be written down, cleaned: an unknown name's may not."""
        return is_harmless_name(name) and not self.hides(name)

    def clean(self, text: str) -> str:
        """The text without secrets: values of secret variables, what the patterns match, credentials in URLs.

        What was cleaned before comes out the same.
        """
        if HIDDEN in text:
            return HIDDEN.join(self._clean(part) for part in text.split(HIDDEN))
        return self._clean(text)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        for pattern in self._patterns:
            # A pattern that matches nothing at all would else leave a mark between any two letters.
            text = pattern.sub(lambda found: HIDDEN if found[0] else "", text)
        return hide_credentials(text)


def _compiled(nth: int, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as problem:
        raise ExperimentError(
            f"{pattern!r} is no regular expression: {problem}", at=f"collect.redact[{nth}]"
        ) from problem


def _forms(value: str) -> Iterable[str]:
    """The ways in which a value turns up: each line by itself, as logs are read, and encoded for URLs and JSON."""
    for line in {value, *value.splitlines()}:
        plain = line.strip()
        yield from (plain, quote(plain, safe=""), quote_plus(plain), json.dumps(plain)[1:-1])


def environment_digest(env: Mapping[str, str], redactor: Redactor) -> str:
    """`sha256:…` over all names, and the values that are written down anyway, as they are written down.

    No other value goes in: one short secret in it, all else known, could be guessed from the digest.
    """
    digest = sha256()
    for name in sorted(env):
        digest.update(_hash(name) + _hash(redactor.clean(env[name]) if redactor.shows(name) else HIDDEN))
    return f"sha256:{digest.hexdigest()}"


def _hash(text: str) -> bytes:
    return sha256(text.encode(errors="surrogateescape")).digest()
