"""From nodes to nouns: the tree is read by the types of the model, and every problem is noted where it stands.

The types decide nearly everything. What the file says more briefly than the model is listed here once, under
"Shapes", and `schema` describes the same shapes for editors: a fault or a probe is one key, a command line may be a
plain text, `newest: true` is an order. The sentences are ours; msgspec has the last word when all is read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from ..model.experiment import Abort, ExactInjection, FailingProbe, Name, Readiness, WheelEntry
from ..model.fault import Fault, SignalName
from ..model.faults.combined import Part, Sequence, Together
from ..model.probe import Probe
from ..model.target import Cmdline, Selector
from ..model.units import QUANTITIES, Ms
from ..model.wire import Vocabulary, dec_hook
from .document import Node
from .problems import Path, Problems, did_you_mean

BAD: Final = type("Bad", (), {"__repr__": lambda self: "BAD"})()
"""What could not be read; the problem is noted."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A value that was read, and where: cross-references are checked once all names are known."""

    value: Any
    node: Node
    path: Path


class Reading:
    """One reading of one document."""

    def __init__(self, vocabulary: Vocabulary, problems: Problems, check: Callable[[Reading, Mention], None]) -> None:
        self.vocabulary = vocabulary
        self.problems = problems
        self.mentions: list[Mention] = []
        """Every struct that was read whole, inner ones first."""
        self.texts: list[Mention] = []
        """Every text, for the references in it."""
        self._check = check

    def note(self, message: str, node: Node, path: Path, hint: str = "") -> Any:
        """Note a problem; returns BAD, so that readers can return this."""
        self.problems.add(message, node=node, path=path, hint=hint)
        return BAD

    def read(self, node: Node, kind: types.Type, path: Path) -> Any:
        """The value that stands here, of this type, or BAD."""
        match kind:
            case types.Metadata():
                return self.read(node, kind.type, path)
            case types.UnionType():
                return self._union(node, kind, path)
            case types.StructType():
                return self.struct(node, kind.cls, path)
            case types.CustomType():
                return self._custom(node, kind.cls, path)
            case types.VarTupleType() | types.ListType() | types.SetType() | types.FrozenSetType():
                return self._many(node, kind, path)
            case types.DictType():
                return self._dict(node, kind, path)
            case types.StrType():
                return self._text(node, kind, path)
            case types.IntType() | types.FloatType():
                return self._number(node, kind, path)
            case types.BoolType():
                if node.kind == "bool":
                    return node.value
                hint = "YAML 1.2 knows true and false only" if node.raw.lower() in _OLD_BOOLS else ""
                return self.note(f"expected true or false, got {node}", node, path, hint)
            case types.LiteralType():
                return self._literal(node, kind, path)
            case types.NoneType():
                return None if node.kind == "null" else self.note(f"expected nothing (null), got {node}", node, path)
        return self._other(node, kind, path)

    # Pieces.

    def _text(self, node: Node, kind: types.StrType, path: Path) -> Any:
        if node.kind != "text":
            hint = f'put it in quotes: "{node.raw}"' if node.kind in ("int", "float", "bool") else ""
            return self.note(f"expected text, got {node}", node, path, hint)
        text: str = node.value
        if kind.min_length is not None and len(text) < kind.min_length:
            return self.note("the text is empty" if not text else "the text is too short", node, path)
        if kind.max_length is not None and len(text) > kind.max_length:
            return self.note(f"the text has {len(text)} characters, and {kind.max_length} is the most", node, path)
        if kind.pattern is not None and re.search(kind.pattern, text) is None:
            return self._misfit(node, kind.pattern, path)
        self.texts.append(Mention(text, node, path))
        return text

    def _misfit(self, node: Node, pattern: str, path: Path) -> Any:
        if pattern == _pattern(SignalName):
            upper = node.raw.upper()
            return self.note(
                f"expected the name of a signal, got {node}", node, path, f"write it like {upper or 'TERM'}"
            )
        if pattern == _pattern(Name):
            return self.note(f"{node} is no name", node, path, _NAME_HINT)
        if ":[0-5]" in pattern:
            return self.note(f"expected a time of day, got {node}", node, path, 'write it like "09:30"')
        return self.note(f"{node} does not match {pattern}", node, path)

    def _number(self, node: Node, kind: types.IntType | types.FloatType, path: Path) -> Any:
        whole = isinstance(kind, types.IntType)
        if node.kind == "int" or (node.kind == "float" and not whole):
            value = node.value if whole else float(node.value or 0)
            if value is not None and _within(value, kind):
                return value
        hint = ""
        if node.kind == "text" and (_UNIT.search(node.raw) or not node.plain):
            hint = "write the number alone, without quotes or a unit"
        return self.note(f"expected {_wanted(kind)}, got {node}", node, path, hint)

    def _literal(self, node: Node, kind: types.LiteralType, path: Path) -> Any:
        # True == 1 in Python, and not in a file.
        if any(node.value == one and type(node.value) is type(one) for one in kind.values):
            return node.value
        hint = ""
        if node.kind == "text":
            words = [one for one in kind.values if isinstance(one, str)]
            hint = did_you_mean(node.raw, words) if words else "write it without quotes"
        return self.note(f"expected {_wanted(kind)}, got {node}", node, path, hint)

    def _custom(self, node: Node, cls: Any, path: Path) -> Any:
        if cls in QUANTITIES:
            return self._quantity(node, cls, path)
        if cls is Fault:
            return self._one_key(node, "fault", self.vocabulary.fault_types, path)
        if cls is Probe:
            return self._one_key(node, "probe", self.vocabulary.probe_types, path)
        return self._other(node, types.CustomType(cls), path)

    def _quantity(self, node: Node, cls: Any, path: Path) -> Any:
        if len(node.raw) > 60:
            return self.note(f"expected {_wanted(types.CustomType(cls))}, got {node}", node, path)
        try:
            value = cls.parse(node.value if node.kind == "text" else None)
        except ValueError as problem:
            said = str(problem) if node.kind == "text" else f"{str(problem).rsplit(', got ', 1)[0]}, got {node}"
            hint = ""
            if node.kind in ("int", "float") and cls is Ms:
                hint = f"{node.raw} what? write {node.raw}s or {node.raw}ms"
            elif node.kind == "text" and cls is not Ms and _COMPARED.match(node.raw):
                hint = "leave out the < sign"
            return self.note(said, node, path, hint)
        if isinstance(value, int) and value >= 2**63:
            return self.note(f"{node} is more than any machine has", node, path)
        return value

    def _many(self, node: Node, kind: Any, path: Path) -> Any:
        make: Any = {types.ListType: list, types.SetType: set, types.FrozenSetType: frozenset}.get(type(kind), tuple)
        if node.kind == "null":
            return make()
        if node.kind != "list":
            return self._no_list(node, path)
        argument = isinstance(kind.item_type, types.StrType) and kind.item_type.pattern is None
        read = self._argument if argument else self.read
        values = [read(item, kind.item_type, (*path, at)) for at, item in enumerate(node.items)]
        return BAD if BAD in values else make(values)

    def _no_list(self, node: Node, path: Path) -> Any:
        if path and path[-1] in COMMANDS and node.kind == "text":
            return self.note(
                "a command is a list of arguments; there is no shell that would take it apart",
                node,
                path,
                _as_list(node.raw),
            )
        hint = f"write a list: [{node.raw}]" if node.raw and len(node.raw) < 60 else "write a list, - before each entry"
        return self.note(f"expected a list, got {node}", node, path, hint)

    def _argument(self, node: Node, kind: types.Type, path: Path) -> Any:
        """A text in a command line or an environment: numbers count as they are written, 08 stays 08."""
        if node.kind in ("int", "float"):
            return node.raw
        return self.read(node, kind, path)

    def _dict(self, node: Node, kind: types.DictType, path: Path) -> Any:
        if node.kind == "null":
            return {}
        if node.kind != "map":
            return self.note(f"expected a map, got {node}", node, path)
        read = self._argument if isinstance(kind.value_type, types.StrType) else self.read
        result: dict[Any, Any] = {}
        for name, (key, value) in node.entries.items():
            if isinstance(kind.key_type, types.LiteralType) and name not in kind.key_type.values:
                words = [str(one) for one in kind.key_type.values]
                result[name] = self.note(f"unknown key {name!r}", key, path, did_you_mean(name, words))
            elif isinstance(kind.key_type, types.StrType) and not _matches(kind.key_type, name):
                result[name] = self.note(f"{name!r} is no name", key, (*path, name), _NAME_HINT)
            else:
                result[name] = read(value, kind.value_type, (*path, name))
        return BAD if BAD in result.values() else result

    def _union(self, node: Node, kind: types.UnionType, path: Path) -> Any:
        members = [one for one in kind.types if not isinstance(one, types.NoneType)]
        if node.kind == "null" and len(members) < len(kind.types):
            return None
        if len(members) == 1:
            return self.read(node, members[0], path)
        fitting = [one for one in members if node.kind in _kinds(one)]
        if len(fitting) == 1:
            return self.read(node, fitting[0], path)
        for one in fitting:
            silent = Reading(self.vocabulary, Problems(""), self._check)
            if silent.read(node, one, path) is not BAD:
                return self.read(node, one, path)
        if node.kind == "text" and path and path[-1] in COMMANDS:
            return self._no_list(node, path)
        hint = did_you_mean(node.raw, _words(members)) if node.kind == "text" and _words(members) else ""
        if node.kind == "text" and _NUMBER.fullmatch(node.raw):
            hint = "write it without quotes"
        return self.note(f"expected {' or '.join(map(_wanted, members))}, got {node}", node, path, hint)

    def _other(self, node: Node, kind: types.Type, path: Path) -> Any:
        """A type that only a plugin uses: msgspec reads it from plain values."""
        if isinstance(kind, types.AnyType):
            return plain(node)
        target = getattr(kind, "cls", None)
        if target is None:
            return self.note(f"values of the type {type(kind).__name__} cannot be read from a file", node, path)
        try:
            return msgspec.convert(plain(node), target, dec_hook=dec_hook(self.vocabulary))
        except (msgspec.ValidationError, NotImplementedError) as problem:
            return self.note(str(problem), node, path)

    # Structs.

    def struct(self, node: Node, cls: type[Any], path: Path) -> Any:
        """A struct of the model, by its shape in the file."""
        return self._checked(SHAPES.get(cls, Reading._plain_struct)(self, node, cls, path), node, path)

    def _checked(self, value: Any, node: Node, path: Path) -> Any:
        """Every struct goes through here once: what its own fields cannot say is checked now."""
        if value is not BAD:
            mention = Mention(value, node, path)
            self.mentions.append(mention)
            self._check(self, mention)
        return value

    def _plain_struct(self, node: Node, cls: type[Any], path: Path) -> Any:
        entries = self.entries(node, path, cls)
        if entries is BAD:
            return BAD
        return self.build(cls, self.fields(node, cls, entries, path), node, path)

    def entries(self, node: Node, path: Path, cls: type[Any] | None = None) -> Any:
        """The entries of a map; nothing at all is an empty map. Else BAD, with a problem."""
        if node.kind == "null":
            return {}
        if node.kind == "map":
            return node.entries
        known = f"with the keys {', '.join(fields_of(cls))}" if cls is not None else ""
        return self.note(f"expected a map, got {node}", node, path, f"write a map {known}".strip())

    def fields(
        self, node: Node, cls: type[Any], entries: Mapping[str, tuple[Node, Node]], path: Path, *, without: str = ""
    ) -> dict[str, Any]:
        """The values of the keys that are fields of `cls`; unknown keys are noted."""
        known = {name: field for name, field in fields_of(cls).items() if name != without}
        values: dict[str, Any] = {}
        for name, (key, value) in entries.items():
            if name in known:
                values[known[name].name] = self.read(value, known[name].type, (*path, name))
            else:
                values[""] = self.unknown(name, key, path, known)
        return values

    def unknown(self, name: str, key: Node, path: Path, known: Any) -> Any:
        """Note a key that nobody knows."""
        if name == "<<":
            hint = "merge keys are not part of YAML 1.2: write the keys out"
        else:
            hint = did_you_mean(name, known, what="keys here are") or "there are no keys here"
        return self.note(f"unknown key {name!r}", key, path, hint)

    def build(self, cls: type[Any], values: dict[str, Any], node: Node, path: Path) -> Any:
        """The struct, or BAD where a field is missing or bad; what is missing is noted."""
        whole = True
        for name, field in fields_of(cls).items():
            if field.required and field.name not in values:
                self.note(f"{name!r} is missing", node, path, missing_hint(cls, name))
                whole = False
        if not whole or BAD in values.values():
            return BAD
        return cls(**values)

    # Shapes: what the file says more briefly than the model.

    def _one_key(self, node: Node, what: str, known: Mapping[str, type[Any]], path: Path) -> Any:
        """`http: {…}`: the key is the kind, the value its options."""
        if node.kind == "text" and node.raw in known:
            return self.note(f"expected a {what}, got {node}", node, path, f"write {node.raw}: {{…}}")
        entries = self.entries(node, path)
        return BAD if entries is BAD else self._the_one(node, what, known, entries, path)

    def _the_one(
        self,
        node: Node,
        what: str,
        known: Mapping[str, type[Any]],
        entries: Mapping[str, tuple[Node, Node]],
        path: Path,
        beside: Any = (),
    ) -> Any:
        """Exactly one of the entries is a fault or a probe, and there is no other."""
        if len(entries) == 1:
            ((name, (key, value)),) = entries.items()
            if name not in known:
                message = f"unknown {what} {name!r}"
                return self.note(message, key, path, self._unknown_kind(name, what, known, beside))
            return self.struct(value, known[name], (*path, name))
        if not entries:
            return self.note(f"there is no {what} here", node, path, f"give one of {', '.join(sorted(known))}")
        named = [name for name in entries if name in known]
        for name, (key, value) in entries.items():
            if name not in known:
                self.unknown(name, key, path, [*beside, *known])
            else:
                self.struct(value, known[name], (*path, name))
        if len(named) > 1:
            keys = " and ".join(named)
            line = entries[named[1]][0]
            self.note(
                f"{keys} are {len(named)} {what}s, and one belongs here", line, path, "make each an entry of its own"
            )
        elif not named:
            self.note(f"there is no {what} here", node, path, f"give one of {', '.join(sorted(known))}")
        return BAD

    def _unknown_kind(self, name: str, what: str, known: Iterable[str], beside: Iterable[str]) -> str:
        # A slip in a key that stands beside it looks like a fault that nobody knows.
        hint = did_you_mean(name, [*known, *beside])
        if hint.startswith("did you"):
            return hint
        return f"known {what}s are {', '.join(sorted(known))}; a plugin's are known with --plugin"

    def _beside(self, node: Node, cls: type[Any], path: Path, inner: str, known: Mapping[str, type[Any]]) -> Any:
        """A struct whose field `inner` is not a key: its kind stands beside the other fields."""
        entries = self.entries(node, path, cls)
        if entries is BAD:
            return BAD
        own = {name: entry for name, entry in entries.items() if name in fields_of(cls) and name != inner}
        rest = {name: entry for name, entry in entries.items() if name not in own}
        values = self.fields(node, cls, own, path)
        values[inner] = self._the_one(node, inner, known, rest, path, beside=[n for n in fields_of(cls) if n != inner])
        return self.build(cls, values, node, path)

    def _beside_fault(self, node: Node, cls: type[Any], path: Path) -> Any:
        return self._beside(node, cls, path, "fault", self.vocabulary.fault_types)

    def _beside_probe(self, node: Node, cls: type[Any], path: Path) -> Any:
        return self._beside(node, cls, path, "probe", self.vocabulary.probe_types)

    def _abort(self, node: Node, cls: type[Any], path: Path) -> Any:
        entries = self.entries(node, path)
        if entries is BAD:
            return BAD
        if len(entries) != 1:
            return self.note("a condition is exactly one of probe, crashes, recovery", node, path, "one entry for each")
        ((name, (key, value)),) = entries.items()
        if name not in ABORT_KEYS:
            return self.unknown(name, key, path, ABORT_KEYS)
        inner = fields_of(Abort)[ABORT_KEYS[name]]
        read = self.read(value, inner.type, (*path, name)) if value.kind != "null" else None
        if read is None:
            return self.note(f"{name} says nothing", value, (*path, name), "see `croupier schema`")
        return BAD if read is BAD else Abort(**{inner.name: read})

    def _selector(self, node: Node, cls: type[Any], path: Path) -> Any:
        entries = self.entries(node, path, cls)
        if entries is BAD:
            return BAD
        rest = {name: entry for name, entry in entries.items() if name not in ORDERS and name != "exclude"}
        # An `exclude` of one is written as a map.
        single: Any = ()
        if "exclude" in entries:
            value = entries["exclude"][1]
            if value.kind == "map":
                one = self.read(value, types.StructType(Selector, ()), (*path, "exclude"))
                single = BAD if one is BAD else (one,)
            else:
                single = self.read(value, fields_of(Selector)["exclude"].type, (*path, "exclude"))
        values = self.fields(node, Selector, rest, path)
        values["exclude"] = single
        for word in ORDERS & entries.keys():
            key, value = entries[word]
            if value.value is not True:
                hint = f"write order: {word}"
                values["order"] = self.note(f"{word} is true or left out", value, (*path, word), hint)
            elif "order" in values:
                self.note("the order is given twice", key, path, "keep one of order, newest, oldest")
                values["order"] = BAD
            else:
                values["order"] = word
        return self.build(Selector, values, node, path)

    def _parts(self, node: Node, cls: type[Any], path: Path) -> Any:
        """`together: [{…}, {…}]`: a combination is its list of faults."""
        parts = self.read(node, fields_of(cls)["of"].type, path)
        if parts is BAD:
            return BAD
        if not parts:
            return self.note(f"{path[-1]} is a list of faults", node, path, "- kill: {}, one entry for each")
        for at, part in enumerate(parts):
            if part.fault.parts:
                self.note("a combination holds no combinations", node.items[at], (*path, at), "list its faults here")
                return BAD
        return cls(of=parts)

    def _cmdline(self, node: Node, cls: type[Any], path: Path) -> Any:
        if node.kind == "text":
            text = self._text(node, types.StrType(), path)
            return Cmdline(glob=text)
        return self._plain_struct(node, cls, path)


Shape = Callable[[Reading, Node, type[Any], Path], Any]
SHAPES: dict[type[Any], Shape] = {
    WheelEntry: Reading._beside_fault,
    ExactInjection: Reading._beside_fault,
    Part: Reading._beside_fault,
    Together: Reading._parts,
    Sequence: Reading._parts,
    Readiness: Reading._beside_probe,
    FailingProbe: Reading._beside_probe,
    Abort: Reading._abort,
    Selector: Reading._selector,
    Cmdline: Reading._cmdline,
}
ABORT_KEYS = {"probe": "failing", "crashes": "crashes", "recovery": "recovery"}
ORDERS = frozenset(("newest", "oldest"))
COMMANDS = frozenset(("command", "run", "found", "ask"))
"""Keys whose lists of texts are argument lists."""

_OLD_BOOLS = frozenset(("yes", "no", "on", "off", "y", "n"))
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_UNIT = re.compile(r"^\s*\d")
_COMPARED = re.compile(r"\s*[<>]")
_NAME_HINT = "a name has letters, digits, - and _, begins with a letter and has at most 63 of them"


def fields_of(cls: type[Any]) -> dict[str, types.Field]:
    """The fields of a struct by their names in the file."""
    if cls not in _FIELDS:
        info = types.type_info(cls)
        assert isinstance(info, types.StructType)
        _FIELDS[cls] = {field.encode_name: field for field in info.fields}
    return _FIELDS[cls]


_FIELDS: dict[type[Any], dict[str, types.Field]] = {}


def plain(node: Node) -> Any:
    """The values alone, without lines."""
    if node.kind == "map":
        return {name: plain(value) for name, (_, value) in node.entries.items()}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    return node.value


def missing_hint(cls: type[Any], name: str) -> str:
    """What to write for a key that is missing."""
    field = fields_of(cls)[name]
    if name == "version":
        return "write version: 1"
    examples = {"command": "command: [program, argument]", "target": "target: {process: NAME}"}
    if name in examples:
        return f"write {examples[name]}"
    return f"{name} is {_wanted(field.type)}"


@cache
def _pattern(annotated: Any) -> str:
    info = types.type_info(annotated)
    inner = info.type if isinstance(info, types.Metadata) else info
    assert isinstance(inner, types.StrType)
    return inner.pattern or ""


def _matches(kind: types.StrType, text: str) -> bool:
    return kind.pattern is None or re.search(kind.pattern, text) is not None


def _within(value: float, kind: types.IntType | types.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
    )


def _kinds(kind: types.Type) -> tuple[str, ...]:
    """The kinds of nodes that this type may be read from."""
    match kind:
        case types.Metadata():
            return _kinds(kind.type)
        case types.StructType():
            return ("map", "text") if kind.cls is Cmdline else ("map",)
        case types.DictType():
            return ("map",)
        case types.VarTupleType() | types.ListType() | types.SetType() | types.FrozenSetType():
            return ("list",)
        case types.StrType():
            return ("text",)
        case types.IntType():
            return ("int",)
        case types.FloatType():
            return ("float",)
        case types.BoolType():
            return ("bool",)
        case types.LiteralType():
            return tuple({"str": "text", "int": "int", "bool": "bool"}[type(one).__name__] for one in kind.values)
        case types.CustomType():
            return ("text",) if kind.cls in QUANTITIES else ("map",)
    return ("map", "list", "text", "null", "bool", "int", "float")


def _words(members: list[types.Type]) -> list[str]:
    return [str(word) for one in members if isinstance(one, types.LiteralType) for word in one.values]


def _wanted(kind: types.Type) -> str:
    """A type in words, as in "expected …"."""
    match kind:
        case types.Metadata():
            return _wanted(kind.type)
        case types.UnionType():
            return " or ".join(_wanted(one) for one in kind.types if not isinstance(one, types.NoneType))
        case types.LiteralType():
            words = [str(one) for one in sorted(kind.values, key=str)]
            return f"one of {', '.join(words)}" if len(words) > 2 else " or ".join(words)
        case types.IntType() | types.FloatType():
            return ("a whole number" if isinstance(kind, types.IntType) else "a number") + _range(kind)
        case types.StrType():
            return "text"
        case types.BoolType():
            return "true or false"
        case types.VarTupleType() | types.ListType() | types.SetType() | types.FrozenSetType():
            return "a list"
        case types.CustomType() if kind.cls in QUANTITIES:
            return {"Ms": "a duration like 2s", "Bytes": "a size like 64KiB", "Percent": "a share like 50%"}.get(
                kind.cls.__name__, f"like {kind.cls.json_schema['examples'][0]!r}"
            )
    return "a map"


def _range(kind: types.IntType | types.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.ge is not None:
        return f" of {kind.ge} or more"
    if kind.le is not None:
        return f" of {kind.le} or less"
    return ""


def _as_list(command: str) -> str:
    """How a command line is written as a list. Never through a shell: what only a shell does belongs in a script."""
    if _SHELL.search(_REFERENCES.sub("", command)):
        return "put what needs a shell (pipes, redirections, $NAME) in a script of its own, and name the script here"
    try:
        words = shlex.split(command[:500])
    except ValueError:
        words = command[:500].split()
    shown = ", ".join(
        word if _SAFE.fullmatch(word) else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words
    )
    return f"write [{shown}]"


_SHELL = re.compile(r"[|<>;&`$*]|\|\|")
_REFERENCES = re.compile(r"\$\{[^}]*\}")
_SAFE = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./=-]*")
