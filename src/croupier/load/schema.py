"""The JSON Schema (2020-12) of the experiment file as people write it, for editors.

Made from the same types and shapes that `reading` reads by. Descriptions are the docstrings: those of the classes,
and those under their fields. What only `checks` knows (names that must exist, patterns that must compile) is not in it.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect as types

from ..model.experiment import Abort, ExactInjection, Experiment, FailingProbe, Name, Readiness, WheelEntry
from ..model.fault import Fault
from ..model.faults.combined import Part, Sequence, Together
from ..model.probe import Invariant, Probe
from ..model.target import Cmdline, Selector
from ..model.units import QUANTITIES, write_quantity
from ..model.wire import Vocabulary
from .reading import ABORT_KEYS, ORDERS, fields_of

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(catalogue: Vocabulary) -> Schema:
    """The schema of an experiment file, with the faults and probes of this catalogue."""
    writer = _Writer(catalogue)
    root = writer.struct(Experiment)
    root["properties"]["steady_state"]["items"] = {"$ref": "#/$defs/probe"}
    root["anyOf"] = [{"required": [name]} for name in ("processes", "attach")]
    names = {"propertyNames": {"pattern": _name_pattern()}}
    for section in ("processes", "attach"):
        root["properties"][section].update(names)
    defs = dict(sorted(writer.defs.items()))
    return {"$schema": DIALECT, "title": "An experiment for Croupier", **root, "$defs": defs}


class _Writer:
    """Collects what is referred to under `$defs`."""

    def __init__(self, catalogue: Vocabulary) -> None:
        self.catalogue = catalogue
        self.defs: dict[str, Schema] = {}
        world = {name: one for name, one in catalogue.probe_types.items() if not issubclass(one, Invariant)}
        self.defs["probe"] = self._one_key("Reads the world, with a time-out.", world)
        self.defs["invariant"] = self._one_key(
            "A question to the recovered state, or to the journal.", catalogue.probe_types
        )
        self.world = world

    def of(self, kind: types.Type) -> Schema:
        """The schema of values of this type."""
        match kind:
            case types.Metadata():
                return {**self.of(kind.type), **(kind.extra_json_schema or {})}
            case types.UnionType():
                return self._union(kind)
            case types.StructType():
                return self.reference(kind.cls)
            case types.CustomType():
                return self._custom(kind.cls)
            case types.VarTupleType() | types.ListType() | types.SetType() | types.FrozenSetType():
                return {"type": ["array", "null"], "items": self._argument(kind.item_type)}
            case types.DictType():
                return {"type": ["object", "null"], **self._entries(kind)}
            case types.LiteralType():
                return {"enum": sorted(kind.values, key=str)}
            case types.StrType():
                return _given("string", minLength=kind.min_length, maxLength=kind.max_length, pattern=kind.pattern)
            case types.IntType():
                return _given("integer", minimum=kind.ge, maximum=kind.le, exclusiveMinimum=kind.gt,
                              exclusiveMaximum=kind.lt)  # fmt: skip
            case types.FloatType():
                return _given("number", minimum=kind.ge, maximum=kind.le, exclusiveMinimum=kind.gt,
                              exclusiveMaximum=kind.lt)  # fmt: skip
            case types.BoolType():
                return {"type": "boolean"}
            case types.NoneType():
                return {"type": "null"}
        return {}

    def reference(self, cls: type[Any]) -> Schema:
        """A reference to the schema of a struct, which is put under `$defs` once."""
        name = cls.__name__
        if name not in self.defs:
            self.defs[name] = {}
            self.defs[name] = _SHAPES.get(cls, _Writer.struct)(self, cls)
        return {"$ref": f"#/$defs/{name}"}

    def struct(self, cls: type[Any], *, without: str = "") -> Schema:
        """A map with the fields of a struct."""
        docs = field_docs(cls)
        fields = {name: field for name, field in fields_of(cls).items() if name != without}
        properties = {name: self._field(field, docs.get(field.name, "")) for name, field in fields.items()}
        required = [name for name, field in fields.items() if field.required]
        return {
            "description": inspect.getdoc(cls) or "",
            # Bare, like `kill:` with nothing behind it, where there is nothing that must be said.
            "type": "object" if required else ["object", "null"],
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def _field(self, field: types.Field, doc: str) -> Schema:
        written = self.of(field.type)
        if field.default not in (msgspec.NODEFAULT, None, ()) and isinstance(
            field.default, (str, int, float, *QUANTITIES)
        ):
            default = write_quantity(field.default) if isinstance(field.default, QUANTITIES) else field.default
            written = {**written, "default": default}
        return {**written, "description": doc} if doc else written

    def _custom(self, cls: Any) -> Schema:
        if cls in QUANTITIES:
            return {"description": (inspect.getdoc(cls) or "").split("\n")[0], **cls.json_schema}
        if cls is Fault:
            return self._one_key("What is done.", self.catalogue.fault_types)
        return {"$ref": "#/$defs/invariant"} if cls is Probe else {}

    def _union(self, kind: types.UnionType) -> Schema:
        members = [self.of(one) for one in kind.types]
        return {"anyOf": members}

    def _argument(self, kind: types.Type) -> Schema:
        """A text in a list or a map of texts: numbers count as they are written."""
        if isinstance(kind, types.StrType) and kind.pattern is None:
            return {"type": ["string", "number"]}
        return self.of(kind)

    def _entries(self, kind: types.DictType) -> Schema:
        key = self.of(kind.key_type)
        limits = {name: key[name] for name in ("pattern", "enum") if name in key}
        return {
            "additionalProperties": self._argument(kind.value_type),
            **({"propertyNames": limits} if limits else {}),
        }

    # Shapes, as in `reading`.

    def _one_key(self, description: str, kinds: Mapping[str, type[Any]]) -> Schema:
        return {
            "description": description,
            "type": "object",
            "properties": {name: self.reference(kinds[name]) for name in sorted(kinds)},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        }

    def _beside(self, cls: type[Any], inner: str, kinds: Mapping[str, type[Any]]) -> Schema:
        written = self.struct(cls, without=inner)
        written["type"] = "object"
        written["properties"] = {
            **{name: self.reference(kinds[name]) for name in sorted(kinds)}, **written["properties"]
        }  # fmt: skip
        written["oneOf"] = [{"required": [name]} for name in sorted(kinds)]
        return written

    def _beside_fault(self, cls: type[Any]) -> Schema:
        return self._beside(cls, "fault", self.catalogue.fault_types)

    def _injection(self, cls: type[Any]) -> Schema:
        written = self._beside_fault(cls)
        triggers = [{"required": [name]} for name in ("at", "after", "on")]
        written["allOf"] = [{"oneOf": written.pop("oneOf")}, {"oneOf": triggers}]
        return written

    def _parts(self, cls: type[Any]) -> Schema:
        parts = self.of(fields_of(cls)["of"].type)
        return {"description": inspect.getdoc(cls) or "", **parts}

    def _beside_probe(self, cls: type[Any]) -> Schema:
        return self._beside(cls, "probe", self.world)

    def _abort(self, cls: type[Any]) -> Schema:
        fields, docs = fields_of(cls), field_docs(cls)
        written = self._one_key(inspect.getdoc(cls) or "", {})
        written["properties"] = {
            key: {
                **next(one for one in self.of(fields[name].type)["anyOf"] if "$ref" in one),
                "description": docs.get(name, ""),
            }
            for key, name in ABORT_KEYS.items()
        }
        return written

    def _selector(self, cls: type[Any]) -> Schema:
        written = self.struct(cls)
        written["minProperties"] = 1
        for word in sorted(ORDERS):
            written["properties"][word] = {"const": True, "description": f"Short for order: {word}."}
        one = self.reference(Selector)
        doc = "Whom the rest does not mean: a selector, or a list of them."
        written["properties"]["exclude"] = {
            "anyOf": [one, {"type": ["array", "null"], "items": one}],
            "description": doc,
        }
        written["not"] = {"required": ["count", "percent"]}
        return written

    def _cmdline(self, cls: type[Any]) -> Schema:
        glob = {"type": "string", "description": "A glob over the arguments, joined by single spaces."}
        return {"anyOf": [glob, self.struct(cls)]}


_SHAPES: dict[type[Any], Callable[[_Writer, type[Any]], Schema]] = {
    WheelEntry: _Writer._beside_fault,
    ExactInjection: _Writer._injection,
    Part: _Writer._beside_fault,
    Together: _Writer._parts,
    Sequence: _Writer._parts,
    Readiness: _Writer._beside_probe,
    FailingProbe: _Writer._beside_probe,
    Abort: _Writer._abort,
    Selector: _Writer._selector,
    Cmdline: _Writer._cmdline,
}


def _given(kind: str, **limits: Any) -> Schema:
    return {"type": kind, **{name: value for name, value in limits.items() if value is not None}}


def _name_pattern() -> str:
    pattern: str = msgspec.json.schema(Name)["pattern"]
    return pattern


def field_docs(cls: type[Any]) -> dict[str, str]:
    """The texts that stand under the fields of a class, its bases' included; nothing where there is no source."""
    return {name: text for one in reversed(cls.__mro__) for name, text in _own_docs(one).items()}


@cache
def _own_docs(one: type[Any]) -> dict[str, str]:
    """Those that stand in its own body: read once, since it is the base of many."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
    except (OSError, TypeError, SyntaxError):
        return {}
    docs: dict[str, str] = {}
    body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
    for before, after in itertools.pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[before.target.id] = inspect.cleandoc(after.value.value).replace("\n", " ")
    return docs
