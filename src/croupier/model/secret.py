"""What counts as a secret, and how a text is freed of the ones that show themselves: rules only, over plain text."""

from __future__ import annotations

import re

HIDDEN = "‹redacted›"
"""What stands where a secret stood."""

# Substrings, on purpose: hiding KEYBOARD costs nothing, showing APIKEY does. PWD and OLDPWD are directories.
_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|PASS(?:_|$)|(?<!^OLD)(?<!^)PWD|CREDENTIAL|AUTH|COOKIE|DSN|PRIVATE|SALT|WEBHOOK"
    r"|CONN(?:ECTION)?_?STR",
    re.IGNORECASE,
)
# Bounded repeats after a literal: a line of 64 KiB costs one pass, whatever it holds.
_USERINFO = re.compile(r"""://[^\s/"'<>]{1,512}@""")
_HEADER = re.compile(
    r"\b((?:authorization|cookie)[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:basic|bearer|digest|token)\s{1,4})?)\S+", re.I
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name is taken to hold a secret."""
    return _NAME.search(name) is not None


def hide_credentials(text: str) -> str:
    """The text without what URLs carry before the `@`, and without what `Authorization:` and `Cookie:` say."""
    if "@" in text and "://" in text:
        text = _USERINFO.sub(f"://{HIDDEN}@", text)
    if _HEADER.search(text):
        text = _HEADER.sub(rf"\1{HIDDEN}", text)
    return text
