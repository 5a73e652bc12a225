"""What is wrong with a file, gathered so that people see all of it at once, each with its line and a way forward."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..model.errors import ExperimentError

if TYPE_CHECKING:
    from .document import Node

Path = tuple[str | int, ...]
MOST = 100
"""Nobody reads more; and a file of ten thousand wrong lines is answered quickly."""


class Problems:
    """The problems of one file, in the order of its lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: dict[tuple[int, str, str], ExperimentError] = {}
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, message: str, *, line: int = 0, node: Node | None = None, path: Path = (), hint: str = "") -> None:
        """Note a problem; the reading goes on."""
        line = node.line if node is not None else line
        key = (line, path_text(path), message)
        if key in self._found:
            return
        if len(self._found) >= MOST:
            self._more += 1
            return
        self._found[key] = ExperimentError(message, at=self.place(line, path), hint=hint)

    def fatal(self, message: str, *, line: int = 0, hint: str = "") -> ExperimentError:
        """Note a problem after which nothing more can be read; raise what this returns."""
        self._found[(line, "", message)] = ExperimentError(message, at=self.place(line), hint=hint)
        return self.gathered()

    def gathered(self) -> ExperimentError:
        """All of it as one error: the first in the file, with the others behind it."""
        ordered = [self._found[key] for key in sorted(self._found, key=lambda key: key[0])]
        if self._more:
            ordered.append(ExperimentError(f"{self._more} more problems are not shown", at=self.name))
        first, *others = ordered
        return ExperimentError(first.message, at=first.at, hint=first.hint, others=tuple(others))

    def place(self, line: int, path: Path = ()) -> str:
        """`file:line: path.in.document`."""
        where = f"{self.name}:{line}" if line else self.name
        return f"{where}: {path_text(path)}" if path else where


def path_text(path: Path) -> str:
    """A path as people write it: `faults[0].kill.signal`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.isdisjoint(step) and step:
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


_PLAIN = frozenset(".[]'\" \n\t")


def did_you_mean(wrong: str, known: Iterable[str], *, what: str = "known are") -> str:
    """A hint: the nearest known word, or all of them."""
    words = sorted(known)
    # Only short words are compared: the time that difflib takes grows with the square of the length.
    near = get_close_matches(wrong, words, n=1, cutoff=0.6) if len(wrong) <= 60 else []
    if not near:
        near = [one for one in words if one.lower() == wrong.lower()[:60]]
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(words[:40]) + (", …" if len(words) > 40 else "")
    return f"{what} {shown}" if words else ""
