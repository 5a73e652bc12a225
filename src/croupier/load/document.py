"""From bytes to a tree of nodes that know their line and column. Knows YAML, and nothing of experiments.

YAML 1.2 by its core schema: `yes`, `on` and `010` are no booleans and no octal here, and JSON is YAML. What could
surprise or harm is refused: tags, keys given twice, merge keys, several documents, and texts whose aliases would
unfold to more than they look like. ruamel.yaml gives the parsing events; the tree is built here, so that the limits
hold while reading and not after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from ..model.errors import ExperimentError
from .problems import Problems

MOST_BYTES = 2**19
MOST_NODES = 40_000
"""Aliases counted as often as they stand for something. Keeps the reading of any file of MOST_BYTES near a second."""
DEEPEST = 50

Kind = Literal["map", "list", "text", "null", "bool", "int", "float"]


@dataclass(slots=True, eq=False)
class Node:
    """One piece of the document. `raw` is a scalar as it was written; `plain` says that it stood without quotes."""

    kind: Kind
    line: int
    column: int
    value: Any = None
    raw: str = ""
    plain: bool = False
    items: list[Node] = field(default_factory=list)
    entries: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    size: int = 1
    height: int = 1

    def __str__(self) -> str:
        """For people, as in "expected text, got the number 3"."""
        shown = self.raw if len(self.raw) <= 60 else self.raw[:57] + "..."
        words = {"map": "a map", "list": "a list", "null": "nothing", "text": repr(shown), "bool": shown}
        return words.get(self.kind, f"the number {shown}")

    def child(self, step: str | int) -> Node | None:
        """The node under a key or at an index."""
        if isinstance(step, int):
            return self.items[step] if 0 <= step < len(self.items) else None
        entry = self.entries.get(step)
        return entry[1] if entry else None


def text_of(source: bytes, problems: Problems) -> str:
    """The characters of the file. Raises ExperimentError: too large, not UTF-8, control characters."""
    if len(source) > MOST_BYTES:
        raise too_large(len(source), problems)
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = source.count(b"\n", 0, problem.start) + 1
        hint = "save it as UTF-8"
        if source[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = "it looks like UTF-16: save it as UTF-8"
        raise problems.fatal(f"byte {problem.start + 1} of the file is not UTF-8", line=line, hint=hint) from None
    if found := _CONTROL.search(text):
        what = "a NUL" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
        line = text.count("\n", 0, found.start()) + 1
        raise problems.fatal(f"the file holds {what}", line=line, hint="it must be text: is this the right file?")
    return text


def too_large(size: int, problems: Problems) -> ExperimentError:
    """What to raise for a file of `size` bytes, before anything of it is parsed."""
    return problems.fatal(
        f"the file is too large: {size:,} bytes, the limit is {MOST_BYTES:,}",
        hint="draw the injections from the wheel (faults, schedule) instead of listing them",
    )


def compose(text: str, problems: Problems) -> Node:
    """The tree of the one document in `text`. Raises ExperimentError where it cannot be read further."""
    root: Node | None = None
    waiting: list[_Open] = []
    anchors: dict[str, Node | None] = {}
    written = 0
    for event in _events(text, problems):
        name = type(event).__name__
        line = event.start_mark.line + 1 if event.start_mark else 1
        column = event.start_mark.column + 1 if event.start_mark else 1
        if name == "DocumentStartEvent":
            _check_document(event, root, line, problems)
            continue
        if name == "AliasEvent":
            node = _aliased(event.anchor, anchors, line, problems)
        elif name == "ScalarEvent":
            node = _scalar(event, line, column)
            _check_scalar(event, node, problems)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            if len(waiting) >= DEEPEST:
                raise problems.fatal(f"nested deeper than {DEEPEST} levels", line=line)
            _check_tag(event, line, problems)
            written += 1
            if event.anchor:
                anchors[event.anchor] = None
            opened = Node("map" if name == "MappingStartEvent" else "list", line, column)
            waiting.append(_Open(opened, event.anchor or ""))
            continue
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            closed = waiting.pop()
            node = closed.node
            if closed.anchor:
                anchors[closed.anchor] = node
        else:
            continue
        written += 1
        if name == "ScalarEvent" and event.anchor:
            anchors[event.anchor] = node
        if written > MOST_NODES or node.size > MOST_NODES:
            raise problems.fatal(
                f"the document has more than {MOST_NODES:,} parts, aliases unfolded",
                line=line,
                hint="draw the injections from the wheel (faults, schedule) instead of listing them",
            )
        if len(waiting) + node.height > DEEPEST:
            raise problems.fatal(f"nested deeper than {DEEPEST} levels, aliases unfolded", line=line)
        if waiting:
            _put(waiting[-1], node, line, column, problems)
        else:
            root = node
    if root is None or root.kind == "null":
        raise problems.fatal("the file says nothing", hint="`croupier init` writes an experiment to start from")
    return root


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(slots=True)
class _Open:
    """A map or list whose end was not read yet; `key` waits for its value."""

    node: Node
    anchor: str
    key: Node | None = None


def _events(text: str, problems: Problems) -> Iterator[Any]:
    parser = YAML(typ="safe", pure=True)
    try:
        yield from parser.parse(text)
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        said = problem.problem or problem.context or "this is not YAML"
        if problem.context and problem.problem:
            said = f"{problem.problem} ({problem.context})"
        raise problems.fatal(f"not YAML: {said}", line=line, hint=_yaml_hint(text, line, said)) from None
    except ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise problems.fatal(
            f"the file holds a character that YAML does not allow: {problem.reason}", line=line
        ) from None
    except Exception as problem:
        # The parser is not ours, and people may hand in anything: whatever it stumbles over is a file that is not YAML.
        raise problems.fatal(f"not YAML: {type(problem).__name__}: {problem}") from problem


def _yaml_hint(text: str, line: int, said: str) -> str:
    lines = text.split("\n")
    near = lines[line - 1] if line <= len(lines) else ""
    if "\t" in said or "\\t" in said:
        return "indent with spaces, YAML allows no tabs there"
    if "${" in near:
        return 'put a text with ${…} in quotes: "${port.web}"'
    if "mapping values are not allowed" in said:
        return "is the line above indented like this one? A text that holds ': ' needs quotes"
    return ""


def _check_document(event: Any, root: Node | None, line: int, problems: Problems) -> None:
    if root is not None:
        raise problems.fatal(
            "a second document begins here", line=line, hint="an experiment is one document: remove ---"
        )
    if event.version is not None and tuple(event.version) != (1, 2):
        major, minor = event.version
        problems.add(
            f"the file asks for YAML {major}.{minor}, and experiments are YAML 1.2",
            line=line,
            hint="remove the %YAML line",
        )


def _aliased(anchor: str, anchors: dict[str, Node | None], line: int, problems: Problems) -> Node:
    if anchor not in anchors:
        raise problems.fatal(f"*{anchor} stands for nothing: there is no &{anchor} before it", line=line)
    node = anchors[anchor]
    if node is None:
        raise problems.fatal(f"*{anchor} stands inside of what it stands for", line=line)
    return node


def _check_tag(event: Any, line: int, problems: Problems) -> None:
    if event.tag is None:
        return
    shown = event.tag.replace("tag:yaml.org,2002:", "!!")
    problems.add(f"tags are not allowed, and here stands {shown}", line=line, hint="write the value alone")


def _check_scalar(event: Any, node: Node, problems: Problems) -> None:
    _check_tag(event, node.line, problems)
    if node.kind == "text" and _UNSTORABLE.search(node.raw):
        problems.add("the text holds a NUL or half of a surrogate pair", line=node.line, hint="remove the escape")
        # Nobody could print it in the problems that are still to come.
        node.value = node.raw = _UNSTORABLE.sub("\ufffd", node.raw)
    elif node.kind in ("int", "float") and node.value is None:
        problems.add(f"{node} is out of range: whole numbers have 64 bits, others are finite", line=node.line)
        node.value = 0


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def _scalar(event: Any, line: int, column: int) -> Node:
    raw: str = event.value
    if event.style == '"' and _PAIR.search(raw):
        # JSON is YAML, and writes what lies beyond the basic plane as a pair of escapes.
        raw = _PAIR.sub(lambda found: found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), raw)
    if event.style in ("'", '"', "|", ">"):
        return Node("text", line, column, raw, raw)
    if raw in _NULLS:
        return Node("null", line, column, None, raw, plain=True)
    if raw in _BOOLS:
        return Node("bool", line, column, _BOOLS[raw], raw, plain=True)
    if _INT.fullmatch(raw):
        return Node("int", line, column, _whole(raw), raw, plain=True)
    if _FLOAT.fullmatch(raw):
        return Node("float", line, column, _real(raw), raw, plain=True)
    return Node("text", line, column, raw, raw, plain=True)


def _whole(raw: str) -> int | None:
    """The number, or None past 64 bits: what cannot be written down later is not read either."""
    if len(raw) > 70:
        return None
    number = int(raw, 0) if raw.startswith(("0o", "0x")) else int(raw)
    return number if -(2**63) <= number < 2**64 else None


def _real(raw: str) -> float | None:
    if raw[-1] not in "0123456789.":
        return None
    number = float(raw)
    return number if abs(number) != float("inf") else None


def _put(parent: _Open, node: Node, line: int, column: int, problems: Problems) -> None:
    """Enter a finished node where it belongs; a map takes keys and values by turns."""
    into = parent.node
    into.size += node.size
    into.height = max(into.height, node.height + 1)
    if into.kind == "list":
        into.items.append(node)
        return
    if parent.key is None:
        # An alias as a key still stands where it is written.
        parent.key = Node(node.kind, line, column, node.value, node.raw, node.plain)
        if node.kind in ("map", "list"):
            problems.add(f"a key must be text, and this is {node}", line=line)
        return
    key, parent.key = parent.key, None
    if key.kind in ("map", "list"):
        return
    if key.raw in into.entries:
        first = into.entries[key.raw][0].line
        problems.add(
            f"the key {key.raw!r} stands here a second time", line=key.line, hint=f"the first one is in line {first}"
        )
        return
    into.entries[key.raw] = (key, node)
