"""The words of the command line. Nothing is imported here that `--help` does not need."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from .. import __version__

Command = Callable[[argparse.Namespace], int]

EXIT_CODES = """exit codes:
  0 held    1 violated    2 the file or the command is wrong    3 refused    4 unknown    5 croupier broke
"""


def later(module: str, name: str) -> Command:
    """A command that is imported when it is called."""

    def call(arguments: argparse.Namespace) -> int:
        return int(getattr(import_module(f".{module}", __package__), name)(arguments))

    return call


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; prints help or a complaint and leaves with 0 or 2 by itself."""
    arguments = _parser().parse_args(argv)
    if not hasattr(arguments, "command"):
        _parser().print_help()
        raise SystemExit(2)
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="croupier",
        description="Process roulette under control: disturb a program by a seeded plan, watch it recover,"
        " and say with evidence what held.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"croupier {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        _init, _validate, _plan, _run, _explore, _replay, _shrink, _judge, _report, _runs, _halt, _recover, _faults,
        _probes, _scenarios, _doctor, _schema,
    ):  # fmt: skip
        add(commands)
    return parser


def _command(commands: Any, name: str, help_: str, call: Command, epilog: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=call)
    return parser


def _with_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="MODULE|FILE.py", help="load faults and probes of your own"
    )


def _with_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs", metavar="DIR", help="where runs are stored (default: runs)")


def _with_round(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="decide everything, disturb nobody; the verdict is unknown"
    )
    parser.add_argument(
        "--live", action="store_true", help="allow processes that croupier did not start, if limits.allow names them"
    )
    parser.add_argument("--max-injections", type=int, metavar="N", help="make no more than N, whatever the file allows")
    parser.add_argument("--json", action="store_true", help="print the verdict as one JSON object, and nothing else")
    parser.add_argument("--no-progress", action="store_true", help="print nothing while the round runs")
    _with_out(parser)
    _with_plugins(parser)


def _init(commands: Any) -> None:
    parser = _command(
        commands,
        "init",
        "write an experiment for my app, by asking, from flags, or from a scenario",
        later("init", "init"),
    )
    parser.add_argument(
        "file", nargs="?", default="", metavar="FILE", help="default: experiment.yaml, or SCENARIO.yaml with --from"
    )
    parser.add_argument(
        "--from",
        dest="scenario",
        default="",
        metavar="SCENARIO",
        help="one of the library (`croupier scenarios`), or a file of your own like one of those",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the scenario; may be repeated"
    )
    parser.add_argument("--command", dest="app", metavar="CMD", help="how the app is started, as you would type it")
    parser.add_argument("--title", help="what the experiment shows, in a few words")
    parser.add_argument(
        "--ready-url", metavar="URL", help="answers 200 when the app is ready; ${port.app} is a free port"
    )
    parser.add_argument("--ready-port", metavar="PORT", help="accepts connections when the app is ready")
    parser.add_argument(
        "--workload", metavar="CMD", help="what uses the app, and prints `ack ID` for what was acknowledged"
    )
    parser.add_argument(
        "--check", metavar="CMD", help="says whether everything acknowledged is still there: exit 0 or 1"
    )
    parser.add_argument("--sqlite", metavar="PATH", help="a SQLite database of the app that must stay sound")
    parser.add_argument(
        "--workers", action="store_true", help="the app has worker processes: disturb those, spare the main one"
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing; leave what was not given at its default")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def _validate(commands: Any) -> None:
    parser = _command(
        commands, "validate", "check an experiment file: file:line, what, and a hint", later("rounds", "validate")
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    _with_plugins(parser)


def _plan(commands: Any) -> None:
    parser = _command(commands, "plan", "show what a seed would do", later("rounds", "plan"))
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--seed", type=int, help="default: the one in the file, else 0")
    parser.add_argument(
        "--json", action="store_true", help="the plan's own bytes: the same for the same seed, anywhere"
    )
    _with_plugins(parser)


def _run(commands: Any) -> None:
    parser = _command(commands, "run", "run a round: start, disturb, watch, judge", later("rounds", "run"), EXIT_CODES)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--seed", type=int, help="default: the one in the file, else one drawn and printed")
    parser.add_argument(
        "--triage",
        action="store_true",
        help="when it is violated, play the same plan again and say whether it shows again",
    )
    _with_round(parser)


def _explore(commands: Any) -> None:
    parser = _command(
        commands,
        "explore",
        "check recovery at every moment at which a workload could have died",
        later("explore", "explore"),
        "What the workload prints is its acknowledgement. The check gets the state in CROUPIER_STATE, and what had been"
        "\nprinted before the crash in the file CROUPIER_ACKED; exit 0 is recovered, anything else is a finding."
        "\n{state} in any argument is the state directory.\n\n"
        "With an experiment FILE in place of the workload, each crash point is a round: one process is killed at one of"
        "\nits calls while the others live, is brought back, and the invariants are read.\n\n"
        "exit codes:\n  0 every point held    1 findings    2 the command is wrong    4 nothing was proven"
        "    5 croupier broke\n",
    )
    parser.add_argument("--state", default="", metavar="DIR", help="what the workload starts from; it gets a copy")
    parser.add_argument("--setup", default="", metavar="CMD", help="prepares the copy, unwatched")
    parser.add_argument("--check", default="", metavar="CMD", help="recovers, and asks whether all is well: exit 0")
    parser.add_argument(
        "--check-call", default="", metavar="MODULE:FUNCTION", help="the same in Python, hundreds of times a second"
    )
    parser.add_argument(
        "--until",
        default="",
        metavar="CMD",
        help="the workload is a server; CMD is its client, and says when it is done",
    )
    parser.add_argument("--stdin", default="", metavar="FILE", help="what the workload reads as its standard input")
    parser.add_argument(
        "--model",
        default="kill",
        choices=("kill", "power", "power:ext4-ordered", "power:posix-strict"),
        help="what a crash does: end the processes, or lose what was not synced, by a named model",
    )
    parser.add_argument("--torn", action="store_true", help="also cut each write, after 1 byte and at each 4 KiB page")
    parser.add_argument("--depth", type=int, default=1, choices=(1, 2), help="2: crashes during recovery as well")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="checks at a time (default: one a processor)")
    parser.add_argument("--budget", default="", metavar="60s|5000", help="end after a time, or a number of states")
    parser.add_argument("--check-timeout", default="10s", metavar="TIME", help="a check that takes longer has failed")
    parser.add_argument("--timeout", default="2m", metavar="TIME", help="how long the workload may take")
    parser.add_argument(
        "--level",
        default="auto",
        choices=("auto", "seccomp", "ptrace", "fuse", "shim", "events", "clock"),
        help="how the workload is watched; auto takes the best that works (croupier doctor)",
    )
    parser.add_argument(
        "--process",
        action="append",
        default=[],
        metavar="NAME",
        help="of an experiment: only at calls of this process",
    )
    parser.add_argument(
        "--record", default="5s", metavar="TIME", help="of an experiment: how long it is watched, if no workload ends"
    )
    parser.add_argument("--name", default="", help="what the search is called under --out")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    _with_out(parser)
    _with_plugins(parser)
    parser.add_argument(
        "workload", nargs="*", metavar="-- WORKLOAD", help="the command, with its arguments; or an experiment file"
    )


def _shrink(commands: Any) -> None:
    parser = _command(
        commands,
        "shrink",
        "find the shortest workload and the fewest operations that still fail",
        later("explore", "shrink"),
    )
    parser.add_argument("run", metavar="RUN/k0045", help="a crash point of a stored search")
    parser.add_argument("--tries", type=int, default=200, metavar="N", help="at most so many searches (default: 200)")
    parser.add_argument("--json", action="store_true", help="print it as one JSON object")
    _with_out(parser)


def _replay(commands: Any) -> None:
    parser = _command(
        commands, "replay", "carry out the recorded decisions again, and say where the world diverged",
        later("again", "replay"),
        "RUN/k0045 is a crash point of a search: its state in a directory, and the check run on it. With --live, the\n"
        "workload again, killed for real at that point. Exit 1 when it shows again, 0 when it does not.\n\n"
        + EXIT_CODES,
    )  # fmt: skip
    parser.add_argument(
        "run", metavar="RUN", help="a run directory, its name under --out, latest, or RUN/k0045 of a search"
    )
    _with_round(parser)


def _judge(commands: Any) -> None:
    parser = _command(
        commands,
        "judge",
        "give the verdict of a stored run again, from its journal alone",
        later("records", "judge"),
        EXIT_CODES,
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--json", action="store_true", help="print the verdict as one JSON object")
    _with_out(parser)


def _report(commands: Any) -> None:
    parser = _command(commands, "report", "write the page of a stored run again", later("records", "report"))
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--junit", metavar="FILE", help="also write a JUnit file, for a CI that reads them")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    _with_out(parser)


def _runs(commands: Any) -> None:
    parser = _command(commands, "runs", "list past rounds: when, seed, verdict, what broke", later("records", "runs"))
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    _with_out(parser)


def _halt(commands: Any) -> None:
    parser = _command(
        commands, "halt", "stop a running round at once, and heal everything (the kill switch)", later("safety", "halt")
    )
    parser.add_argument(
        "run",
        nargs="?",
        default="",
        metavar="RUN",
        help="a run directory, a name as `croupier runs` has it, an experiment's folder, or latest;"
        " default: every round of this user",
    )
    _with_out(parser)


def _recover(commands: Any) -> None:
    parser = _command(commands, "recover", "heal what a dead croupier left behind", later("safety", "recover"))
    parser.add_argument("--json", action="store_true", help="print what was found and healed as JSON")


def _faults(commands: Any) -> None:
    parser = _command(
        commands, "faults", "list the faults, with options, needs and how each heals", later("catalogue", "faults")
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    _with_plugins(parser)


def _probes(commands: Any) -> None:
    parser = _command(
        commands, "probes", "list the probes and invariants, with their options", later("catalogue", "probes")
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    _with_plugins(parser)


def _scenarios(commands: Any) -> None:
    parser = _command(
        commands,
        "scenarios",
        "list the scenarios that `init --from` knows; of one, its checklist, settings and runbook",
        later("catalogue", "scenarios"),
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def _doctor(commands: Any) -> None:
    parser = _command(
        commands,
        "doctor",
        "say what this machine can do, what is missing, and how to get it",
        later("doctor", "doctor"),
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _schema(commands: Any) -> None:
    parser = _command(
        commands, "schema", "print the JSON Schema of the experiment file, for editors", later("catalogue", "schema")
    )
    parser.add_argument("--search", action="store_true", help="that of what `explore --json` prints instead")
    _with_plugins(parser)
