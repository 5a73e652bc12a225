"""Write the generated pages of docs/reference: what the program itself knows is not written down a second time.

    python tools/make_docs.py            write them
    python tools/make_docs.py --check    say which are out of date; exit 1 if any is

Pages come from data (parsers, types, tables) and never from formatted help, so every Python writes the same bytes.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from croupier.cli import parser as command_line
from croupier.load import library, load_text
from croupier.load.schema import field_docs, schema
from croupier.load.words import default_of, in_words
from croupier.model import errors, journal, supervision, verdict
from croupier.model.fault import Fault
from croupier.model.journal import ProcessState
from croupier.model.scenario import TIERS, Scenario
from croupier.model.units import QUANTITIES
from croupier.registry import built_in

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/make_docs.py: change the source that it reads, then `make docs`. -->\n"


def pages() -> dict[str, str]:
    """File name in docs/reference → text."""
    writers: dict[str, Callable[[], str]] = {
        "commands.md": commands_page,
        "experiment-keys.md": keys_page,
        "faults.md": faults_page,
        "probes.md": probes_page,
        "scenarios.md": scenarios_page,
        "events.md": events_page,
        "exit-codes.md": exit_codes_page,
        "supervision.md": supervision_page,
    }
    return {name: NOTE + "\n" + write() for name, write in writers.items()}


# The command line.


def commands_page() -> str:
    """Every command, with its arguments and options."""
    parts = [
        "# Commands\n",
        "`croupier COMMAND --help` says the same in a terminal. Exit codes are on [their own page](exit-codes.md).\n",
    ]
    commands = parsers()
    parts.append(
        _table(("Command", "What it does"), ((f"[`{name}`](#{name})", said) for name, (said, _) in commands.items()))
    )
    for name, (help_, parser) in commands.items():
        actions = [one for one in parser._actions if not isinstance(one, argparse._HelpAction)]
        words = " ".join(_usage(one) for one in sorted(actions, key=lambda one: not one.option_strings))
        parts += [f"## {name}\n", f"{_sentence(help_)}\n", f"```text\ncroupier {name} {words}".rstrip() + "\n```\n"]
        if actions:
            parts.append(_table(("Argument", "Meaning"), ((f"`{_argument(one)}`", _meaning(one)) for one in actions)))
    return "\n".join(parts)


def parsers() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Command → (its line of help, its parser)."""
    (found,) = (one for one in command_line._parser()._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help or "" for one in found._choices_actions}
    return {name: (helps[name], parser) for name, parser in found.choices.items()}


def _argument(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return value
    return " ".join([", ".join(action.option_strings), value]).rstrip()


def _usage(action: argparse.Action) -> str:
    optional = bool(action.option_strings) or action.nargs == "?"
    return f"[{_argument(action)}]" if optional else _argument(action)


def _meaning(action: argparse.Action) -> str:
    return _sentence(action.help or "what it is about") if action.help else "Which one is meant."


# The experiment file.

SECTIONS: tuple[tuple[str, str, str], ...] = (
    ("", "The file", ""),
    ("ProcessSpec", "processes.NAME", ""),
    ("Readiness", "processes.NAME.ready and .alive", "One [probe](probes.md), by its name, and beside it:"),
    ("Restart", "processes.NAME.restart", ""),
    ("Stop", "processes.NAME.stop and workload.stop", ""),
    ("Volume", "volumes.NAME", ""),
    ("Proxy", "proxies.NAME", ""),
    ("Subnet", "networks.NAME", ""),
    ("Workload", "workload", ""),
    ("WheelEntry", "faults[]", "One [fault](faults.md), by its name, and beside it:"),
    ("Schedule", "schedule", ""),
    ("ExactInjection", "injections[]", "One [fault](faults.md), by its name, exactly one of `at`, `after`, `on`, and:"),
    ("Part", "together[] and sequence[]", "One [fault](faults.md), by its name, and beside it:"),
    ("After", "injections[].after", ""),
    ("On", "injections[].on", ""),
    ("LogTrigger", "injections[].on.log", ""),
    ("SyscallTrigger", "injections[].on.syscall", ""),
    ("Selector", "target, attach.NAME, limits.allow[], limits.deny[]", ""),
    ("Cmdline", "target.cmdline", "A glob, or:"),
    ("Limits", "limits", ""),
    ("Cluster", "limits.cluster", ""),
    ("Window", "limits.window", ""),
    ("Abort", "abort_when[]", ""),
    ("FailingProbe", "abort_when[].probe", "One [probe](probes.md), by its name, and beside it:"),
    ("CrashRate", "abort_when[].crashes", ""),
    ("SlowRecovery", "abort_when[].recovery", ""),
    ("Collect", "collect", ""),
)


def keys_page() -> str:
    """Every key of the experiment file."""
    written = schema(built_in())
    said = [
        "# Keys of the experiment file\n",
        "Every key that an experiment may have; any other is refused. How the parts work together is on"
        " [the experiment file](experiment-file.md). `croupier schema` prints the same as a JSON Schema for editors.\n",
    ]
    for name, heading, lead in SECTIONS:
        node = _resolved(written["$defs"][name] if name else written)
        beside = _one_key_names(written) if lead else frozenset()
        said += [f"## {heading}\n", f"{_prose(node.get('description', ''))}\n"]
        said += [f"{lead}\n"] if lead else []
        said.append(_keys_table(node, without=beside))
    return "\n".join(said)


def _one_key_names(written: Mapping[str, Any]) -> frozenset[str]:
    known = built_in()
    return frozenset((*known.fault_types, *known.probe_types)) - {"process"} | {"process:probe"}


def _keys_table(node: Mapping[str, Any], without: frozenset[str] = frozenset()) -> str:
    required = node.get("required", ())
    rows = []
    for key, one in node["properties"].items():
        if key in without or (key == "process" and "process:probe" in without):
            continue
        default = "required" if key in required else _default(one)
        rows.append((f"`{key}`", _kind(one), default, _prose(_own_description(one))))
    return _table(("Key", "Value", "Default", "Meaning"), rows)


def _resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The map among several forms: a selector's command line may also be a plain glob."""
    if "properties" in node:
        return node
    return next(one for one in node["anyOf"] if "properties" in one)


def _default(node: Mapping[str, Any]) -> str:
    said = default_of(node)
    return f"`{said}`" if said else ""


_QUANTITY_DOCS = {(inspect.getdoc(one) or "").split("\n")[0] for one in QUANTITIES}


def _own_description(node: Mapping[str, Any]) -> str:
    said: str = node.get("description", "")
    return "" if said in _QUANTITY_DOCS else said


def _kind(node: Mapping[str, Any]) -> str:
    """A schema in a few words, with a link to where a part is described."""
    return in_words(node, _linked, "`")


def _linked(name: str, words: str) -> str:
    if name in ("probe", "invariant"):
        return f"[{name}](probes.md)"
    headings = {section: heading for section, heading, _ in SECTIONS}
    return f"[{words}](experiment-keys.md#{_anchor(headings[name])})" if name in headings else words


# Faults and probes.


def faults_page() -> str:
    """Every fault that is built in."""
    known, written = built_in(), schema(built_in())
    said = [
        "# Faults\n",
        "What can be done to a process, under `faults` (the wheel) and `injections`. `croupier faults` prints the same,"
        " with what a plugin adds, and whether this machine can do it.\n",
    ]
    for name, injector in known.faults.items():
        node = written["$defs"][injector.spec.__name__]
        said += [f"## {name}\n", f"{_prose(node['description'])}\n", f"```yaml\n{injector.example}\n```\n"]
        said.append(_keys_table(node) if "properties" in node else f"A list of {_kind(node['items'])}.\n")
        said += [f"- Needs: {injector.needs or 'nothing special.'}", f"- Heals: {injector.heals}\n"]
        for option, struct in _structs_of(node, written):
            said += [f"### {name}.{option}\n", f"{_prose(struct['description'])}\n", _keys_table(struct)]
    return "\n".join(said)


def _structs_of(node: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    shared = {section for section, _, _ in SECTIONS}
    for option, one in node.get("properties", {}).items():
        for form in one.get("anyOf", [one]):
            name = form.get("$ref", "").rpartition("/")[2]
            if name and name not in shared:
                yield option, _resolved(written["$defs"][name])


def probes_page() -> str:
    """Every probe and invariant that is built in."""
    known, written = built_in(), schema(built_in())
    said = [
        "# Probes and invariants\n",
        "A probe reads the world, and may stand under `steady_state`, `ready`, `alive`, `abort_when` and `invariants`."
        " An invariant asks the journal, and stands under `invariants` alone; `croupier judge` answers it again at any"
        " time. `croupier probes` prints the same, with what a plugin adds.\n",
    ]
    for heading, journal_ones in (("Probes", False), ("Invariants", True)):
        said.append(f"## {heading}\n")
        for name, spec in known.probe_types.items():
            if _asks_journal(spec) != journal_ones:
                continue
            node = written["$defs"][spec.__name__]
            said += [f"### {name}\n", f"{_prose(node['description'])}\n", _keys_table(node)]
    return "\n".join(said)


def _asks_journal(spec: type[Any]) -> bool:
    return any(base.__name__ == "Invariant" for base in spec.__mro__)


# Scenarios.


def scenarios_page() -> str:
    """Every scenario of the library."""
    found = {name: library.read_scenario(name) for name in library.scenario_names()}
    said = [
        "# Scenarios\n",
        "Experiments that are thought through, with what to do before, meanwhile and after. `croupier init --from NAME"
        " --set KEY=VALUE` writes one as an experiment of yours, with its runbook above it; `croupier scenarios` lists"
        " them. A file of your own that looks like those in `src/croupier/load/scenarios/` is one as well: `croupier"
        " init --from ./mine.yaml`. [How to start from one](../how-to/write-an-experiment.md#start-from-a-scenario).\n",
    ]
    for tier, meaning in TIERS.items():
        rows = ((f"[`{name}`](#{name})", one.title) for name, one in found.items() if one.tier == tier)
        said += [f"Tier {tier}: {meaning}.\n", _table(("Scenario", "Shows"), rows)]
    for name, one in found.items():
        said += [f"## {name}\n", f"Tier {one.tier}. **{one.title}.** {_prose(one.about)}\n", *_scenario(name, one)]
    return "\n".join(said)


def _scenario(name: str, one: Scenario) -> Iterator[str]:
    text = library.experiment_of(name, one, {})
    loaded = load_text(text.encode(), name, built_in(), environment={}).experiment
    injured = (*(part.fault for part in loaded.injections), *(part.fault for part in loaded.faults))
    kinds = dict.fromkeys(kind for fault in injured for kind in _kinds(fault))
    yield f"*Hypothesis.* {loaded.hypothesis}\n"
    yield f"*Faults.* {', '.join(f'[`{kind}`](faults.md#{kind})' for kind in kinds)}\n"
    for heading, entries, bullet in (
        ("Before", one.preconditions, "- [ ]"),
        ("Runbook", one.runbook, "1."),
        ("How it shows", one.signals, "-"),
        ("Rollback", one.rollback, "-"),
        ("Read on", one.references, "-"),
    ):
        yield f"*{heading}.*\n"
        yield "\n".join(f"{bullet} {_linked_address(entry)}" for entry in entries) + "\n"
    rows = ((f"`{key}`", f"`{set_.default}`" if set_.default else "", set_.meaning)
            for key, set_ in library.settings_of(one).items())  # fmt: skip
    yield _table(("Setting", "Default", "Meaning"), rows)


def _kinds(fault: Fault) -> Iterator[str]:
    yield fault.kind
    for part in fault.parts:
        yield part.fault.kind


def _linked_address(text: str) -> str:
    return re.sub(r"https://\S+", lambda found: f"<{found[0]}>", text)


# The record.


def events_page() -> str:
    """Every event that a journal may hold."""
    kinds = get_args(journal.AnyEvent)
    said = [
        "# Events of the journal\n",
        f"The closed set of what a line of `journal.jsonl` can be, version {journal.JOURNAL_VERSION}. Each also has"
        " `event`, its name, and `at_us`, microseconds of monotonic time since the first event. A field at its default"
        " may be left out. How to read a journal is on [the journal](journal.md).\n",
        _table(("Event", "When"), ((f"[`{_tag(one)}`](#{_tag(one)})", _first_sentence(one)) for one in kinds)),
    ]
    for one in kinds:
        docs = field_docs(one)
        rows = [
            (f"`{field.encode_name}`", _type_words(field.type), docs.get(field.name, ""))
            for field in msgspec.structs.fields(one)
            if field.name != "at_us"
        ]
        said += [f"## {_tag(one)}\n", f"{_prose(inspect.getdoc(one) or '')}\n"]
        said += [_table(("Field", "Value", "Meaning"), rows)] if rows else []
    struck = msgspec.structs.fields(journal.Struck)
    docs = field_docs(journal.Struck)
    said += [
        "## One struck process\n",
        f"{_prose(inspect.getdoc(journal.Struck) or '')} In `targets` of `intended`.\n",
        _table(
            ("Field", "Value", "Meaning"),
            ((f"`{one.encode_name}`", _type_words(one.type), docs.get(one.name, "")) for one in struck),
        ),
        "An *identity* is `{pid, started, boot}`: the pid, its start time in clock ticks, and the boot id.\n",
    ]
    return "\n".join(said)


def _tag(kind: type[Any]) -> str:
    return str(kind.__struct_config__.tag)


def _type_words(kind: Any) -> str:
    words = {str: "text", int: "number", float: "number", bool: "`true`, `false`", type(None): "nothing"}
    if kind in words:
        return words[kind]
    name = getattr(kind, "__name__", "")
    arguments = get_args(kind)
    if name == "tuple":
        return f"list of {_type_words(arguments[0])}"
    if name == "dict":
        return "map"
    if "Literal" in str(kind) and arguments:
        return ", ".join(f"`{one}`" for one in arguments)
    if arguments:
        return " or ".join(_type_words(one) for one in arguments)
    return {"Identity": "identity", "Struck": "[struck process](#one-struck-process)"}.get(name, name)


def exit_codes_page() -> str:
    """Every exit code, with who gives it."""
    rows: dict[int, str] = {
        verdict.EXIT_CODES["held"]: "**held**: every promise was kept, and something landed. For commands that judge"
        " nothing: done.",
        verdict.EXIT_CODES["violated"]: "**violated**: a promise was broken; the verdict says which, and after which"
        " injection.",
        errors.ExperimentError.exit_code: "**wrong**: the experiment file, the record or the command line is wrong."
        " Nothing was touched.",
        errors.Refused.exit_code: "**refused**: a guard said no before anything was touched; the message names the"
        " limit and how to widen it.",
        verdict.EXIT_CODES["unknown"]: "**unknown**: nothing was proven. The baseline was not steady, nothing landed,"
        " evidence is missing, the round was aborted, or it was a rehearsal.",
        errors.HarnessError.exit_code: "**croupier broke**, or something is still disturbed: the message says what is"
        " left and how to put it back. `croupier doctor` gives it where no round can run.",
        130: "Interrupted while nothing was disturbed: before a round, or by a command that plays none.",
        141: "Whoever read the output went away.",
    }
    said = [
        "# Exit codes\n",
        "The same for every command. The verdict is about the program under test; how the *run* ended (completed,"
        " stopped, aborted) is the outcome, and is kept apart.\n",
        _table(("Code", "Means"), ((f"`{code}`", meaning) for code, meaning in sorted(rows.items()))),
        "Violated beats unknown, and unknown beats held. What is still disturbed beats them all.\n",
    ]
    return "\n".join(said)


def supervision_page() -> str:
    """The table of states × events, on its side: one list a state reads better than seven columns."""
    doc = inspect.getdoc(supervision) or ""
    said = [
        "# Supervision\n",
        "How croupier keeps the processes under `processes` alive: every rule, as a table of states × events. The keys"
        " that it obeys are those of [a process](experiment-keys.md#processesname).\n",
        _table(("State", "Means"), _states()),
        "What holds in every order of events: " + _prose(doc.split("What holds in every order of events:")[1]) + "\n",
        "## The table\n",
        "What each event does in each state; a blank is ignored.\n",
        supervision.print_table(),
        "## The events\n",
        _table(("Event", "When"), ((f"`{one.__name__}`", _first_sentence(one)) for one in supervision.EVENTS)),
    ]
    return "\n".join(said)


def _states() -> Iterator[tuple[str, str]]:
    lines = (inspect.getdoc(supervision) or "").splitlines()
    for state in get_args(ProcessState):
        line = next(one for one in lines if one.strip().startswith(f"{state} "))
        yield f"`{state}`", _sentence(line.strip().removeprefix(state).strip())


# Markdown.


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    """A docstring as Markdown: paragraphs stay, lines within them are joined."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _first_sentence(one: Any) -> str:
    return (inspect.getdoc(one) or "").split("\n")[0]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _anchor(heading: str) -> str:
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` only say which differ."""
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"docs/reference/{name}: {'out of date: make docs' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
