"""Text for people: quantities at a readable precision, and hostile text made harmless.

A program under test may print anything: colours and cursor moves for a terminal, bytes that are no text, marks that
reverse the direction of writing. `clean` makes all of it visible instead of effective. It does not escape HTML, which
is the business of whoever writes HTML.
"""

from __future__ import annotations

import re

_ANSI = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves
    "|\x1b[\\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"  # OSC, DCS and their kin, up to their end
    "|\x1b[ -/]*[0-~]"  # two-character escapes
)
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_LAWLESS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufff9-\uffff{_BIDI}]")


def clean(text: str) -> str:
    """The same text with nothing in it that acts: escape sequences gone, control and bidi characters made visible.

    Tabs and line ends stay. The result can be encoded as UTF-8 and stands in XML 1.0.
    """
    if not _LAWLESS.search(text):
        return text
    return _LAWLESS.sub(_picture, _ANSI.sub("", text.replace("\r\n", "\n")))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or code >= 0xD800:
        return "\ufffd"
    return f"\u27e8U+{code:04X}\u27e9"


def one_line(text: str, limit: int = 400) -> str:
    """Clean text on a single line of at most `limit` characters; what was cut is counted."""
    # What is far behind the limit is never looked at: a single line of log may be megabytes long.
    line = clean(text[: limit * 4]).replace("\n", "\u240a").replace("\t", "    ")
    if len(line) <= limit and len(text) <= limit * 4:
        return line
    return f"{line[:limit]} … ({len(text) - limit:,} more characters)"


def seconds(us: float) -> str:
    """A moment given in microseconds since the start, to the millisecond: `12.345 s`, `2:07.412`, `1:02:03.004`."""
    if us < 0:
        return "-" + seconds(-us)
    if us < 100 * 1_000_000:
        return f"{us / 1e6:.3f} s"
    return f"{clock(us)}.{int(us // 1000) % 1000:03}"


def clock(us: float) -> str:
    """A moment in microseconds, as `0:42`, `12:05` or `1:02:03`."""
    whole = int(us // 1_000_000)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(us: float) -> str:
    """A length given in microseconds at a precision that fits it: `412 µs`, `640 ms`, `2.31 s`, `4 min 10 s`."""
    if us < 1_000:
        return f"{us:.0f} µs"
    if us < 10_000:
        return f"{us / 1e3:.1f} ms"
    if us < 999_500:
        return f"{us / 1e3:.0f} ms"
    if us < 60_000_000:
        return f"{us / 1e6:.2f} s" if us < 10_000_000 else f"{us / 1e6:.1f} s"
    if us < 3_600_000_000:
        return f"{int(us // 60_000_000)} min {int(us // 1_000_000) % 60} s"
    return f"{int(us // 3_600_000_000)} h {int(us // 60_000_000) % 60} min"


def size(count: float) -> str:
    """A number of bytes: `61.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def many(count: int, noun: str) -> str:
    """`1 injection`, `2 injections`, `3 recoveries`, `4 processes`."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("ry"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"
