"""Texts as YAML 1.2 reads them back, for the files that we write."""

from __future__ import annotations

import re


def scalar(text: str) -> str:
    """A text, plain where that is safe."""
    if _PLAIN.fullmatch(text) and not is_word(text):
        return text
    return '"' + "".join(_escape(letter) for letter in text) + '"'


def flow_list(words: tuple[str, ...]) -> str:
    """A list of texts in one line."""
    return f"[{', '.join(scalar(word) for word in words)}]"


def is_word(text: str) -> bool:
    """Whether YAML would read something else than text; some editors still follow YAML 1.1."""
    return text.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")


def _escape(letter: str) -> str:
    code = ord(letter)
    if letter in '"\\':
        return "\\" + letter
    if letter in "\n\t":
        return "\\n" if letter == "\n" else "\\t"
    if 0x20 <= code < 0x7F or (letter.isprintable() and code < 0xD800):
        return letter
    if code == 0 or 0xD800 <= code < 0xE000:
        return "\\uFFFD"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
