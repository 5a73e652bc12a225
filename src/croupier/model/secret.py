"""What counts as a secret, and how a text is freed of the ones that show themselves: rules only, over plain text."""

from __future__ import annotations

import re

HIDDEN = "‹redacted›"
"""What stands where a secret stood."""

# Substrings, on purpose: hiding KEYBOARD costs nothing, showing APIKEY does. PWD and OLDPWD are directories.
_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|PASS(?:_|$)|(?<!^OLD)(?<!^)PWD|CREDENTIAL|AUTH|COOKIE|DSN|PRIVATE|SALT|WEBHOOK"
    r"|CONN(?:ECTION)?_?STR|(?:^|_)PAT(?:_|$)|JWT|BEARER|SIGNATURE|(?:^|_)(?:PIN|OTP|TOTP)(?:_|$)",
    re.IGNORECASE,
)
# Nobody can list all names of secrets, so what is *shown* is listed: what differs between machines and matters.
_HARMLESS = re.compile(
    r"PATH|HOME|PWD|SHELL|TERM|COLORTERM|NO_COLOR|TZ|LANG|LANGUAGE|LC_[A-Z]+|TMPDIR|CI|VIRTUAL_ENV|CONDA_PREFIX"
    r"|XDG_[A-Z]+_(?:HOME|DIR|DIRS)|LD_LIBRARY_PATH|LD_PRELOAD|MALLOC_[A-Z_]+|OMP_NUM_THREADS"
    r"|PYTHON(?:PATH|HOME|HASHSEED|UNBUFFERED|OPTIMIZE|WARNINGS|DEVMODE|UTF8|IOENCODING|MALLOC|FAULTHANDLER"
    r"|NOUSERSITE|SAFEPATH|TRACEMALLOC|ASYNCIODEBUG|DONTWRITEBYTECODE)"
)
# Bounded repeats after a literal: a line of 64 KiB costs one pass, whatever it holds.
_USERINFO = re.compile(r"""://[^\s/"'<>]{1,512}@""")
# Tokens that are known by their first letters, whatever variable they are in.
_TOKEN = re.compile(
    r"\b(?:gh[pousr]_\w{10,255}|github_pat_\w{10,255}|glpat-[\w-]{10,255}|xox[abeoprs]-[\w-]{10,255}"
    r"|AKIA[0-9A-Z]{16}|sk-[\w-]{20,255}|eyJ[\w-]{5,512}+\.[\w-]{1,4096}+\.[\w-]{1,4096})"
)
_HEADER = re.compile(
    r"\b((?:authorization|cookie)[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:basic|bearer|digest|token)\s{1,4})?)\S+", re.I
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name is taken to hold a secret."""
    return _NAME.search(name) is not None


def is_harmless_name(name: str) -> bool:
    """Whether the value of a variable of that name may be written down: only these are, whatever others there are."""
    return _HARMLESS.fullmatch(name) is not None


def hide_credentials(text: str) -> str:
    """The text without what URLs carry before the `@`, what `Authorization:` and `Cookie:` say, and known tokens."""
    text = _TOKEN.sub(HIDDEN, text)
    if "@" in text and "://" in text:
        text = _USERINFO.sub(f"://{HIDDEN}@", text)
    if _HEADER.search(text):
        text = _HEADER.sub(rf"\1{HIDDEN}", text)
    return text
