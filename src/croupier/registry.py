"""The registry: built-ins and plugins enter by the same door, and are loaded when they are first asked for.

A plugin is either installed, and named by an entry point (groups `croupier.faults` and `croupier.probes`, the name is
the fault's or probe's), or local, and named by the operator with `--plugin FILE.py` or `--plugin module`; the file
then lists its parts as `FAULTS` and `PROBES`. An experiment file only ever says a name that is registered here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from .built_in import injector
from .model.errors import ExperimentError, HarnessError
from .model.experiment import ExactInjection, FailingProbe, Readiness, WheelEntry
from .model.fault import Fault
from .model.faults import FAULTS
from .model.probe import INVARIANTS, PROBES, Acks, Invariant, Probe, Reading

if TYPE_CHECKING:
    from .inject import Injector

FAULT_GROUP = "croupier.faults"
PROBE_GROUP = "croupier.probes"

Reader = Callable[[Any, Any], Reading]
"""Reads a probe of its kind, given the view of the round (`observe.View`). Blocks; runs in a worker thread."""


class Prober(Protocol):
    """What a plugin brings for one kind of probe."""

    kind: str
    """Its name in the experiment file."""
    spec: type[Probe]
    """Its options."""
    summary: str
    """One line, for the catalogue."""
    example: str
    """A fragment of an experiment file, YAML."""

    def read(self, probe: Any, view: Any) -> Reading:
        """Look at the world once."""


V = TypeVar("V")


class Shelf(Mapping[str, V], Generic[V]):
    """Names that are known at once, and things behind them that are loaded when they are taken."""

    def __init__(self, loaders: Mapping[str, Callable[[], V]]) -> None:
        self._loaders = dict(loaders)
        self._loaded: dict[str, V] = {}

    def __getitem__(self, name: str) -> V:
        if name not in self._loaded:
            self._loaded[name] = self._loaders[name]()
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._loaders

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


class Catalogue:
    """The faults and probes that this croupier knows, with what carries them out. A `model.wire.Vocabulary`."""

    def __init__(
        self,
        *,
        faults: Mapping[str, Injector],
        fault_types: Mapping[str, type[Fault]],
        readers: Mapping[str, Reader],
        probe_types: Mapping[str, type[Probe]],
        origins: Mapping[str, str],
        plugins: tuple[str, ...] = (),
    ) -> None:
        self.faults = faults
        """Name → injector."""
        self.fault_types = fault_types
        """Name → class of the options."""
        self.readers = readers
        """Name → reader of the world. Invariants that ask the journal have none."""
        self.probe_types = probe_types
        """Name → class of the options, invariants included."""
        self.origins = origins
        """Name → where it comes from: `built in`, a distribution, a file."""
        self.plugins = plugins
        """What `--plugin` named, paths made absolute: whoever loads these again (the guardian) gets the same."""

    def injector(self, kind: str) -> Injector:
        """What carries out the fault of this name. Raises ExperimentError: nobody knows it, or its plugin is broken."""
        if kind not in self.faults:
            raise ExperimentError(f"unknown fault {kind!r}", hint=f"known are {', '.join(self.faults)}; see --plugin")
        return self.faults[kind]

    def reader(self, kind: str) -> Reader:
        """What reads a probe of this name. Raises ExperimentError: nobody knows it, or its plugin is broken."""
        if kind not in self.readers:
            if kind in self.probe_types:
                raise HarnessError(f"{kind} asks the journal, and was to be read from the world")
            raise ExperimentError(f"unknown probe {kind!r}", hint=f"known are {', '.join(self.readers)}; see --plugin")
        return self.readers[kind]


def built_in() -> Catalogue:
    """What comes with croupier, and nothing else: no plugin can be in the way of this."""
    return _Entrance().catalogue()


def catalogue(plugins: tuple[str, ...] = ()) -> Catalogue:
    """Built-ins, installed plugins, and these local ones (`FILE.py` or a module's name).

    Installed plugins are imported when something of theirs is first used, local ones at once. Raises ExperimentError
    that names the plugin: it cannot be imported, does not fit, or brings a name that is taken.
    """
    entrance = _Entrance()
    for point in sorted(importlib.metadata.entry_points(group=FAULT_GROUP), key=_order):
        entrance.fault(point.name, _origin(point), partial(_checked_point, point, _checked_fault))
    for point in sorted(importlib.metadata.entry_points(group=PROBE_GROUP), key=_order):
        entrance.probe(point.name, _origin(point), partial(_checked_point, point, _checked_probe))
    for plugin in plugins:
        entrance.local(plugin)
    return entrance.catalogue()


BUILT_IN = "built in"


class _Entrance:
    """The one door: whatever enters is named, from somewhere, and alone with its name."""

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}
        self.plugins: list[str] = []
        self.faults: dict[str, Callable[[], Any]] = {}
        self.fault_types: dict[str, Callable[[], type[Fault]]] = {}
        self.readers: dict[str, Callable[[], Reader]] = {}
        self.probe_types: dict[str, Callable[[], type[Probe]]] = {}
        for fault in FAULTS:
            self.origins[f"fault {fault.kind}"] = BUILT_IN
            self.faults[fault.kind] = partial(injector, fault.kind)
            self.fault_types[fault.kind] = partial(_itself, fault)
        for probe in (*PROBES, *INVARIANTS):
            self.origins[f"probe {probe.kind}"] = BUILT_IN
            self.probe_types[probe.kind] = partial(_itself, probe)
            # `acks` compares with what a command finds in the world; the other invariants ask the journal alone.
            if probe in PROBES or probe is Acks:
                self.readers[probe.kind] = partial(_built_in_reader, probe.kind)

    def fault(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        self._enter("fault", name, origin)
        loaded = _once(load)
        self.faults[name] = loaded
        self.fault_types[name] = lambda: loaded().spec

    def probe(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        self._enter("probe", name, origin)
        loaded = _once(load)
        self.readers[name] = lambda: loaded().read
        self.probe_types[name] = lambda: loaded().spec

    def local(self, plugin: str) -> None:
        """Load a local plugin now, and enter all its parts."""
        path = Path(plugin)
        is_file = path.suffix == ".py" or len(path.parts) > 1
        plugin = str(path.absolute()) if is_file else plugin
        if plugin in self.plugins:
            return
        module = _module_of(Path(plugin), plugin) if is_file else _imported(plugin, plugin)
        listed = (*_listed(module, "FAULTS", plugin), *_listed(module, "INJECTOR", plugin))
        # The same one under both names is one.
        faults = tuple({id(one): one for one in listed}.values())
        probes = _listed(module, "PROBES", plugin)
        if not faults and not probes:
            raise _misfit(plugin, "lists neither FAULTS nor PROBES", "write FAULTS = (MyInjector(),) at its end")
        for one in faults:
            checked = _checked_fault(one, getattr(one, "kind", ""), plugin)
            self.fault(checked.kind, plugin, partial(_itself, checked))
        for one in probes:
            prober = _checked_probe(one, getattr(one, "kind", ""), plugin)
            self.probe(prober.kind, plugin, partial(_itself, prober))
        self.plugins.append(plugin)

    def _enter(self, what: str, name: str, origin: str) -> None:
        key = f"{what} {name}"
        if key in self.origins:
            raise ExperimentError(
                f"the {what} {name!r} comes twice: {self.origins[key]}, and from {origin}",
                at=f"plugin {origin}",
                hint="remove one of the two, or rename it",
            )
        self.origins[key] = origin

    def catalogue(self) -> Catalogue:
        return Catalogue(
            faults=Shelf(self.faults),
            fault_types=Shelf(self.fault_types),
            readers=Shelf(self.readers),
            probe_types=Shelf(self.probe_types),
            origins=self.origins,
            plugins=tuple(self.plugins),
        )


def _itself(one: V) -> V:
    return one


def _once(load: Callable[[], V]) -> Callable[[], V]:
    kept: list[V] = []

    def loaded() -> V:
        if not kept:
            kept.append(load())
        return kept[0]

    return loaded


def _built_in_reader(kind: str) -> Reader:
    readers: Mapping[str, Reader] = importlib.import_module("croupier.observe").READERS
    return readers[kind]


# Loading.


def _order(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    return point.name, point.value


def _origin(point: importlib.metadata.EntryPoint) -> str:
    dist = point.dist
    return f"{dist.name} {dist.version} ({point.value})" if dist is not None else point.value


def _checked_point(point: importlib.metadata.EntryPoint, check: Callable[[Any, str, str], Any]) -> Any:
    origin = _origin(point)
    return check(_guarded(point.load, origin), point.name, origin)


def _imported(name: str, origin: str) -> ModuleType:
    return _guarded(lambda: importlib.import_module(name), origin)


def _module_of(path: Path, origin: str) -> ModuleType:
    if not path.is_file():
        raise ExperimentError("there is no such file", at=f"plugin {origin}", hint="name a .py file, or a module")
    # The digest keeps two files of one name apart.
    name = f"croupier_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExperimentError("this is no Python file", at=f"plugin {origin}", hint="name a .py file, or a module")
    module = importlib.util.module_from_spec(spec)
    # msgspec looks up annotations by the module's name while the classes are made.
    sys.modules[name] = module
    try:
        _guarded(lambda: spec.loader.exec_module(module), origin)  # type: ignore[union-attr]
    except ExperimentError:
        del sys.modules[name]
        raise
    return module


def _guarded(load: Callable[[], V], origin: str) -> V:
    """Run somebody else's import; whatever goes wrong in it names the plugin."""
    try:
        return load()
    except (Exception, SystemExit) as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise ExperimentError(
            f"cannot be loaded: {said}", at=f"plugin {origin}", hint="mend it, or remove it (pip uninstall, --plugin)"
        ) from problem


def _listed(module: ModuleType, name: str, origin: str) -> tuple[Any, ...]:
    parts = getattr(module, name, ())
    if name == "INJECTOR":
        return (parts,) if parts != () else ()
    if not isinstance(parts, tuple | list):
        raise _misfit(origin, f"{name} is {type(parts).__name__}, and should be a tuple", f"write {name} = (…,)")
    return tuple(parts)


# Does it fit?

_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TAKEN = frozenset(
    field.encode_name
    for cls in (WheelEntry, ExactInjection, Readiness, FailingProbe)
    for field in msgspec.structs.fields(cls)
)
"""Keys that stand beside a fault or a probe in the file."""


def _misfit(
    origin: str, message: str, hint: str = "see docs/how-to/write-a-plugin.md, and croupier.testing checks all of it"
) -> ExperimentError:
    return ExperimentError(message, at=f"plugin {origin}", hint=hint)


def _checked_fault(found: Any, name: str, origin: str) -> Any:
    one = _instance(found, origin)
    _check_words(one, name, ("summary", "heals", "example"), origin)
    _check_spec(one, Fault, "fault", origin)
    for method, arguments in (("lacking", 1), ("inject", 3), ("hold", 3), ("heal", 1)):
        _check_method(one, method, arguments, origin)
    return one


def _checked_probe(found: Any, name: str, origin: str) -> Any:
    one = _instance(found, origin)
    _check_words(one, name, ("summary", "example"), origin)
    _check_spec(one, Probe, "probe", origin)
    if issubclass(one.spec, Invariant):
        raise _misfit(
            origin, f"{one.spec.__name__} asks the journal, and only the judge answers that", "make it a Probe"
        )
    missing = {"name", "within_ms"} - {field.name for field in msgspec.structs.fields(one.spec)}
    if missing:
        raise _misfit(
            origin, f"{one.spec.__name__} lacks {' and '.join(sorted(missing))}", "derive it from Asked as well"
        )
    _check_method(one, "read", 2, origin)
    return one


def _instance(found: Any, origin: str) -> Any:
    return _guarded(found, origin) if inspect.isclass(found) else found


def _check_words(one: Any, name: str, words: tuple[str, ...], origin: str) -> None:
    kind = getattr(one, "kind", None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise _misfit(origin, f"its kind is {kind!r}, and should be a short name in lower case")
    if kind != name:
        raise _misfit(origin, f"its kind is {kind!r}, and it is registered as {name!r}", "use one name for both")
    if kind in _TAKEN:
        raise _misfit(origin, f"{kind!r} is a key of experiment files already", "choose another name")
    for word in words:
        value = getattr(one, word, None)
        if not isinstance(value, str) or not value.strip():
            raise _misfit(origin, f"{kind!r} says nothing under {word!r}, and people read that in the catalogue")
    if not isinstance(getattr(one, "needs", ""), str):
        raise _misfit(origin, f"{kind!r} says what it needs as {type(one.needs).__name__}, and should say it as text")


def _check_spec(one: Any, base: type[Any], tag: str, origin: str) -> None:
    spec = getattr(one, "spec", None)
    if not (inspect.isclass(spec) and issubclass(spec, base) and issubclass(spec, msgspec.Struct)):
        raise _misfit(origin, f"the spec of {one.kind!r} is no class of {base.__name__} and Noun")
    try:
        info = msgspec.inspect.type_info(spec)
    except Exception as problem:
        # The annotations are somebody else's code, evaluated here.
        raise _misfit(origin, f"the fields of {spec.__name__} cannot be understood: {problem}") from problem
    assert isinstance(info, msgspec.inspect.StructType)
    config = spec.__struct_config__
    if info.tag != one.kind or info.tag_field != tag or getattr(spec, "kind", "") != one.kind:
        head = f'class {spec.__name__}({base.__name__}, …, tag="{one.kind}", tag_field="{tag}")'
        hint = f'write {head} with kind = "{one.kind}" in it'
        raise _misfit(origin, f"{spec.__name__} is not tagged with its kind", hint)
    if not config.frozen or not config.forbid_unknown_fields:
        raise _misfit(
            origin, f"{spec.__name__} is not frozen, or takes unknown keys", "derive it from Noun, frozen=True"
        )


def _check_method(one: Any, name: str, arguments: int, origin: str) -> None:
    method = getattr(one, name, None)
    if not callable(method):
        raise _misfit(origin, f"{one.kind!r} has no method {name!r}")
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError as problem:
        raise _misfit(origin, f"{one.kind}.{name} does not take {arguments} arguments: {problem}") from problem
    except ValueError:
        # No signature to look at (a builtin): calling it will tell.
        pass
