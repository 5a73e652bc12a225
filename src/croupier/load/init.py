"""A first experiment file for somebody's program, with comments that say what to change next."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath

from ..model.experiment import references
from .writing import flow_list, is_word, scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What `croupier init` asks. Only the command is needed; whatever is empty becomes a comment that says how."""

    command: tuple[str, ...]
    name: str = ""
    """What the process is called in the file; made from the command where it is empty."""
    title: str = ""
    ready_url: str = ""
    """An address that answers 200 when the program is ready."""
    ready_port: str = ""
    """A port that accepts connections when the program is ready: a number, or `${port.NAME}`."""
    workload: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    """A command that ends with 0 when nothing that was acknowledged is lost."""
    sqlite: str = ""
    """A SQLite database that must be sound at the end, like `${state}/app.db`."""
    state_file: str = ""
    """A file that must be there at the end; one that is called .db, .sqlite or .sqlite3 must be a sound database."""
    children: bool = False
    """The program has worker processes of its own, and they are what is hit."""
    env: dict[str, str] = field(default_factory=dict)


def template(answers: Answers) -> str:
    """The text of an experiment file that loads without a problem. Raises ValueError without a command."""
    if not answers.command or not answers.command[0].strip():
        raise ValueError("a command is needed")
    name = _name(answers)
    title = _one_line(answers.title)[:200] or f"{name} survives killed processes"
    parts = [
        _HEAD.format(title=_quoted(title, literal=True), hypothesis=_hypothesis(answers)),
        _process(name, answers),
        _workload(answers),
        _steady(name, answers),
        _wheel(name, answers),
        _abort(name, answers),
        _invariants(name, answers),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


_HEAD = """\
# An experiment for croupier. Try it in this order:
#
#     croupier validate FILE          is everything well?
#     croupier plan FILE --seed 1     what would be done?
#     croupier run FILE --seed 1      do it

version: 1
title: {title}
hypothesis: {hypothesis}
blast_radius: local                 # local: only what this file starts. Later stages: ci, lab, canary
"""


def _hypothesis(answers: Answers) -> str:
    kept = (
        "Nothing that was written is lost, and the program"
        if answers.check or answers.sqlite or answers.state_file
        else "The program"
    )
    return f"{kept} is ready again within 10 s."


def _process(name: str, answers: Answers) -> str:
    lines = [
        "# What croupier starts and keeps running. A command is a list of arguments, there is no shell. ${port.web} is",
        "# a free port and ${state} an empty directory, both new in each round; relative paths begin at this file.",
        "processes:",
        f"  {name}:",
        f"    command: {_list(answers.command)}",
    ]
    if answers.env:
        lines += [
            "    env:",
            *(f"      {_quoted(key, literal=True)}: {_quoted(value)}" for key, value in answers.env.items()),
        ]
    probe = _ready(answers)
    if probe:
        lines.append(f"    ready: {{{probe}, within: 30s, every: 100ms}}")
    else:
        lines += [
            "    start_grace: 2s                 # counts as started when it still runs after this. Better a probe:",
            '    # ready: {http: {url: "http://127.0.0.1:${port.web}/health"}, within: 10s}',
        ]
    lines += [
        "    restart: {when: unexpected, delay: 500ms, backoff: 2, max_delay: 30s, limit: 20 per 1m}",
        "    stop: {signal: TERM, grace: 5s}",
    ]
    return "\n".join(lines)


def _ready(answers: Answers) -> str:
    if answers.ready_url:
        return f"http: {{url: {_quoted(answers.ready_url)}}}"
    return f"tcp: {{port: {_port(answers)}}}" if answers.ready_port else ""


def _port(answers: Answers) -> str:
    port = answers.ready_port.strip()
    return port if port.isdigit() else _quoted(port)


def _workload(answers: Answers) -> str:
    lines = [
        "# What uses the program during the round. A line `ack ID` that it prints is a promise: ID was written for",
        "# good. croupier collects the ids in the file ${acks}.",
    ]
    if answers.workload:
        lines.append(f"workload: {{command: {_list(answers.workload)}}}")
    else:
        lines.append('# workload: {command: [python, load.py, "http://127.0.0.1:${port.web}"]}')
    return "\n".join(lines)


def _steady(name: str, answers: Answers) -> str:
    probe = _ready(answers) or f"process: {{of: {name}, at_least: 1}}"
    return f"""\
# Health. Nothing is disturbed before this holds, and it has to hold again at the end.
steady_state:
  - {probe}
"""


def _wheel(name: str, answers: Answers) -> str:
    pick = "children" if answers.children else "main"
    other = "main: the process itself" if answers.children else "children: its workers"
    return f"""\
# The wheel: at each turn the seed draws one of these. `croupier faults` lists what there is.
faults:
  - kill: {{signal: TERM, then: KILL, grace: 2s}}     # politely first
    target: {{process: {name}, pick: {pick}}}  # {other}
    weight: 1
  - kill: {{signal: KILL}}
    target: {{process: {name}, pick: {pick}}}
    weight: 2
  - suspend: {{for: 2s}}                              # it lives, holds its connections and locks, and is silent
    target: {{process: {name}, pick: {pick}}}
    weight: 1
schedule: {{every: 10s, jitter: 3s, for: 60s}}

limits: {{injections: 12, rate: 10 per 1m, concurrent: 1}}
"""


def _abort(name: str, answers: Answers) -> str:
    probe = _ready(answers)
    if not probe:
        return f"abort_when:\n  - crashes: {{of: {name}, more_than: 5 per 1m}}     # deaths that no injection caused"
    return f"""\
# When the round is over early: everything is healed, and what there is gets judged.
abort_when:
  - probe: {{{probe}, failing_for: 30s}}
"""


def _invariants(name: str, answers: Answers) -> str:
    lines = [
        "# The questions at the end. What must never be lost is best asked by a command of yours, which ends with 0 if",
        "# all is well, and says why in its last line if not.",
        "invariants:",
        f'  - recovery: {{of: {name}, every: "< 10s"}}',
    ]
    if answers.check:
        lines.append(f"  - command: {{run: {_list(answers.check)}, name: nothing acknowledged is lost}}")
    else:
        lines.append('  # - command: {run: [python, check.py, "${acks}"], name: nothing acknowledged is lost}')
    is_database = PurePath(answers.state_file).suffix.lower() in (".db", ".sqlite", ".sqlite3")
    databases = [one for one in (answers.sqlite, answers.state_file if is_database else "") if one]
    lines += [f"  - sqlite: {{path: {_quoted(one)}, integrity: ok}}" for one in databases]
    if not databases:
        lines.append('  # - sqlite: {path: "${state}/app.db", integrity: ok}')
    if answers.state_file and not is_database:
        lines.append(f"  - file: {{path: {_quoted(answers.state_file)}, exists: true}}")
    if answers.workload:
        lines.append("  # - acks: {at_least: 10}           # with fewer promises than this nothing is proven")
    return "\n".join(lines)


def _name(answers: Answers) -> str:
    """A name that the file may use: from the answer, else from the program."""
    program = PurePath(answers.command[0]).stem
    if _INTERPRETER.fullmatch(PurePath(answers.command[0]).name):
        program = next((PurePath(one).stem for one in answers.command[1:] if not one.startswith("-")), "app")
    wanted = answers.name or program
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-_")[:63]
    kept = re.sub(r"^[^A-Za-z]+", "", kept)
    return kept if kept and kept not in ("workload", "croupier", "guardian") and not is_word(kept) else "app"


_INTERPRETER = re.compile(r"(python[\d.]*|node|ruby|perl|php|java|deno|bun|sh|bash)(\.exe)?")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _list(words: tuple[str, ...]) -> str:
    return flow_list(tuple(_with_references(word) for word in words))


def _quoted(text: str, *, literal: bool = False) -> str:
    """A text as YAML reads it."""
    return scalar(_with_references(text, literal=literal))


def _with_references(text: str, *, literal: bool = False) -> str:
    """References that stand for nothing become literal."""
    return _REFERENCE.sub(lambda found: found[0] if not literal and _stands(found[0]) else f"${found[0]}", text)


_REFERENCE = re.compile(r"(?<!\$)\$\{[^}]*\}?")


def _stands(reference: str) -> bool:
    return all(
        one in ("state", "acks", "seed") or re.fullmatch(r"port\.[A-Za-z][A-Za-z0-9_-]{0,62}|env\.[A-Za-z_]\w*", one)
        for one in references(reference)
    ) and reference.endswith("}")
