"""Built-ins and plugins enter by the same door, and whoever does not fit is named."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap

import pytest

from croupier import registry
from croupier.load import load_text, schema
from croupier.model.errors import ExperimentError, HarnessError
from croupier.model.fault import Kill
from croupier.model.faults import FAULTS
from croupier.model.plan import draw_plan, plan_json
from croupier.model.probe import INVARIANTS, PROBES, Reading
from croupier.model.wire import decode_plan
from croupier.registry import FAULT_GROUP, PROBE_GROUP, built_in, catalogue

PLUGIN = '''
from croupier.model.fault import Fault
from croupier.model.noun import Noun
from croupier.model.probe import Asked, Probe, Reading
from croupier.model.units import Ms
import msgspec


class Slow(Fault, Noun, tag="slow", tag_field="fault", frozen=True, kw_only=True):
    """Make it slow."""

    kind = "slow"
    by_ms: Ms = msgspec.field(name="by")


class Slower:
    kind = "slow"
    spec = Slow
    summary = "Makes a process slow."
    needs = ""
    heals = "By itself."
    example = "slow: {by: 2s}"

    def lacking(self, fault): return ""
    def inject(self, permit, fault, act): ...
    def hold(self, permit, fault, act): ...
    def heal(self, record): ...


class Tide(Probe, Asked, tag="tide", tag_field="probe", frozen=True, kw_only=True):
    """The sea is high."""

    kind = "tide"
    at_least: int = 1


class TideProber:
    kind = "tide"
    spec = Tide
    summary = "Looks at the sea."
    example = "tide: {at_least: 2}"

    def read(self, probe, view):
        return Reading(held=probe.at_least < 3)


FAULTS = (Slower(),)
PROBES = [TideProber]
'''

EXPERIMENT = b"""\
version: 1
title: t
hypothesis: h
processes: {web: {command: [x]}}
steady_state: [{tide: {at_least: 2, within: 1s}}]
faults: [{slow: {by: 2s}, target: {process: web}}]
schedule: {every: 5s, for: 60s}
"""


@pytest.fixture
def plugin(tmp_path):
    """Writes a plugin file, the usual one with a change, and gives its path."""

    def write(old="", new="", name="plugin.py"):
        assert old in PLUGIN
        path = tmp_path / name
        path.write_text(PLUGIN.replace(old, new) if old else PLUGIN + new)
        return str(path)

    yield write
    for name in [one for one in sys.modules if one.startswith("croupier_plugin_")]:
        del sys.modules[name]


def installed(monkeypatch, *points):
    """As if these entry points were installed: (group, name, value)."""
    made = [importlib.metadata.EntryPoint(name=name, value=value, group=group) for group, name, value in points]
    monkeypatch.setattr(
        registry.importlib.metadata, "entry_points", lambda *, group: [one for one in made if one.group == group]
    )


def refusal(*plugins):
    with pytest.raises(ExperimentError) as caught:
        catalogue(plugins)
    assert caught.value.at.startswith("plugin ")
    assert all(one in caught.value.at for one in plugins[-1:])
    return str(caught.value)


def test_every_fault_and_probe_of_the_model_is_in_the_catalogue():
    known = built_in()
    assert {*known.fault_types.values()} == {*FAULTS}
    assert {*known.probe_types.values()} == {*PROBES, *INVARIANTS}
    assert set(known.faults) == {one.kind for one in FAULTS}
    assert set(known.readers) >= {one.kind for one in PROBES}


def test_every_built_in_fault_has_an_injector_that_would_pass_as_a_plugin():
    known = built_in()
    for name, injector in known.faults.items():
        assert registry._checked_fault(injector, name, "built in") is injector
        assert known.injector(name) is injector
        assert injector.spec is known.fault_types[name]


def test_every_built_in_probe_has_a_reader():
    known = built_in()
    assert all(callable(known.reader(name)) for name in known.readers)


def test_what_asks_the_journal_is_not_read_from_the_world():
    with pytest.raises(HarnessError, match="asks the journal"):
        built_in().reader("recovery")


@pytest.mark.parametrize("take", ["injector", "reader"])
def test_a_name_that_nobody_registered_is_a_mistake_with_a_hint(take):
    with pytest.raises(ExperimentError, match="unknown") as caught:
        getattr(built_in(), take)("os.system")
    assert "--plugin" in caught.value.hint


def test_nothing_is_imported_before_it_is_used():
    code = "import sys; from croupier.registry import catalogue; list(catalogue().fault_types.items());"
    code += "print([one for one in ('croupier.inject.kill', 'croupier.observe', 'ruamel.yaml') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_local_plugin_is_used_like_a_built_in(plugin):
    known = catalogue((plugin(),))
    experiment = load_text(EXPERIMENT, "x.yaml", known).experiment
    (probe,) = experiment.steady_state
    assert known.reader("tide")(probe, None) == Reading(held=True)
    assert known.injector("slow").spec is type(experiment.faults[0].fault)
    assert {"slow", "kill"} <= set(schema(known)["$defs"]["WheelEntry"]["properties"])
    plan = draw_plan(experiment, 1)
    assert decode_plan(plan_json(plan), known) == plan


def test_the_same_file_twice_is_one_plugin_and_its_path_is_absolute(plugin, monkeypatch, tmp_path):
    path = plugin()
    monkeypatch.chdir(tmp_path)
    known = catalogue((path, os.path.relpath(path), path))
    assert known.plugins == (path,)
    assert known.origins["fault slow"] == path
    assert catalogue(known.plugins).fault_types["slow"] is known.fault_types["slow"]


def test_a_module_is_a_plugin_by_its_name(plugin, monkeypatch, tmp_path):
    plugin(name="tides_for_test.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = catalogue(("tides_for_test",))
    assert known.plugins == ("tides_for_test",)
    assert known.injector("slow").kind == "slow"
    del sys.modules["tides_for_test"]


def test_without_its_plugin_an_experiment_is_refused(plugin):
    with pytest.raises(ExperimentError) as caught:
        load_text(EXPERIMENT, "x.yaml", built_in())
    assert "--plugin" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "raise RuntimeError('no sea')", "RuntimeError: no sea"),
        ("", "import no_such_module_at_all", "no_such_module_at_all"),
        ("", "def (", "SyntaxError"),
        ("", "raise SystemExit(0)", "SystemExit"),
        ("FAULTS = (Slower(),)\nPROBES = [TideProber]", "", "neither FAULTS nor PROBES"),
        ("FAULTS = (Slower(),)", "FAULTS = Slower()", "should be a tuple"),
        ("FAULTS = (Slower(),)", "FAULTS = (object(),)", "kind is None"),
        ("class Slower:\n    kind = \"slow\"", "class Slower:\n    kind = \"Slow Down\"", "short name"),
        ("class Slower:\n    kind = \"slow\"", "class Slower:\n    kind = \"slower\"", "not tagged with its kind"),
        ("    spec = Slow\n", "    spec = Tide0\n", "Tide0"),
        ("    spec = Slow\n", "    spec = dict\n", "no class of Fault"),
        ("    spec = Slow\n", "", "no class of Fault"),
        ("summary = \"Makes a process slow.\"", "summary = ''", "'summary'"),
        ("heals = \"By itself.\"", "heals = None", "'heals'"),
        ("needs = \"\"", "needs = None", "should say it as text"),
        ("def heal(self, record)", "def heel(self, record)", "no method 'heal'"),
        ("def inject(self, permit, fault, act)", "def inject(self, permit)", "does not take 3"),
        ("def read(self, probe, view)", "def read(self)", "does not take 2"),
        ("tag=\"slow\", tag_field=\"fault\"", "tag=\"slow\", tag_field=\"kind_\"", "not tagged"),
        ("tag=\"slow\",", "tag=\"slow\", forbid_unknown_fields=False,", "takes unknown keys"),
        ("by_ms: Ms", "by_ms: 'Nowhere'", "cannot be understood"),
        ("class Tide(Probe, Asked", "class Tide(Probe, Noun", "lacks name and within_ms"),
        ("TideProber:", "TideProber:\n    def __init__(self, x): ...", "TypeError"),
    ],
)  # fmt: skip
def test_a_plugin_that_does_not_fit_is_named_with_what_is_wrong(plugin, old, new, said):
    assert said in refusal(plugin(old, new))


@pytest.mark.parametrize("name", ["no_such_module_at_all", "./nowhere.py", "/tmp", "a/b", ""])
def test_a_plugin_that_is_not_there_is_named(name):
    with pytest.raises(ExperimentError) as caught:
        catalogue((name,))
    assert caught.value.at.startswith("plugin")


@pytest.mark.parametrize("word", ["target", "weight", "at", "after", "on", "within", "every", "failing_for"])
def test_a_name_that_is_a_key_beside_faults_or_probes_is_refused(plugin, word):
    assert "is a key of experiment files already" in refusal(plugin('"slow"', f'"{word}"'))


def test_a_name_of_a_built_in_is_refused(plugin):
    assert "comes twice: built in" in refusal(plugin('"slow"', '"kill"'))


def test_two_plugins_of_one_name_are_refused_and_both_are_named(plugin):
    one, other = plugin(), plugin(name="other.py")
    said = refusal(one, other)
    assert one in said and other in said


def test_a_probe_that_asks_the_journal_is_refused(plugin):
    path = plugin("class Tide(Probe, Asked", "from croupier.model.probe import Invariant\nclass Tide(Invariant, Asked")
    assert "only the judge answers" in refusal(path)


def test_an_installed_plugin_is_loaded_when_it_is_first_used(plugin, monkeypatch, tmp_path):
    plugin(name="installed_for_test.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(
        monkeypatch,
        (FAULT_GROUP, "slow", "installed_for_test:Slower"),
        (PROBE_GROUP, "tide", "installed_for_test:TideProber"),
    )
    known = catalogue()
    assert "slow" in known.fault_types and "tide" in known.probe_types
    assert "installed_for_test" not in sys.modules
    load_text(EXPERIMENT, "x.yaml", known)
    assert known.injector("slow") is known.faults["slow"]
    del sys.modules["installed_for_test"]


def test_an_installed_plugin_that_is_broken_harms_only_those_who_use_it(monkeypatch):
    installed(monkeypatch, (FAULT_GROUP, "slow", "no_such_module_at_all:X"))
    known = catalogue()
    assert known.injector("kill").spec is Kill
    load_text(
        EXPERIMENT.replace(b"slow: {by: 2s}", b"kill: {}").replace(b"tide: {at_least: 2", b"tcp: {port: 1"), "x", known
    )
    with pytest.raises(ExperimentError, match="cannot be loaded") as caught:
        known.injector("slow")
    assert "no_such_module_at_all:X" in caught.value.at
    with pytest.raises(ExperimentError, match="cannot be loaded"):
        load_text(EXPERIMENT, "x.yaml", known)


def test_an_installed_plugin_must_be_what_its_entry_point_says(plugin, monkeypatch, tmp_path):
    plugin(name="renamed_for_test.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(monkeypatch, (FAULT_GROUP, "slower", "renamed_for_test:Slower"))
    with pytest.raises(ExperimentError, match="registered as 'slower'"):
        catalogue().injector("slower")
    del sys.modules["renamed_for_test"]


def test_installed_plugins_of_one_name_are_refused_and_built_ins_work_without_them(monkeypatch):
    installed(monkeypatch, (FAULT_GROUP, "kill", "a:b"))
    with pytest.raises(ExperimentError, match=r"comes twice: built in, and from a:b"):
        catalogue()
    assert built_in().injector("kill").kind == "kill"


def test_a_name_that_does_not_come_from_the_registry_is_never_imported():
    text = EXPERIMENT.replace(b"slow: {by: 2s}", b"os.system: {}").decode()
    with pytest.raises(ExperimentError, match=r"unknown fault 'os\.system'"):
        load_text(textwrap.dedent(text).encode(), "x.yaml", catalogue())
