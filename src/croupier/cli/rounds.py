"""`validate`, `plan`, `run` and `replay`."""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import msgspec

from .. import report
from ..load import Loaded, load_experiment
from ..model import journal as j
from ..model.errors import ExperimentError, ReplayError
from ..model.plan import At, Injection, Plan, digest, draw_plan, plan_json
from ..model.secret import HIDDEN
from ..registry import Catalogue, catalogue
from ..run import Divergence, Finished, Options, compare, run_round
from ..run.replay import recorded_plan
from ..store import RunDir, find_run
from ..store.runs import write_whole
from .records import write_page


def validate(arguments: Namespace) -> int:
    """Check a file, and say everything that is wrong with it."""
    try:
        loaded = load_experiment(Path(arguments.file), catalogue(tuple(arguments.plugin)))
    except ExperimentError as problem:
        if not arguments.json:
            raise
        said = [{"at": one.at, "message": one.message, "hint": one.hint} for one in problem.every]
        _print_json({"valid": False, "problems": said, "warnings": []})
        return problem.exit_code
    if arguments.json:
        _print_json({"valid": True, "problems": [], "warnings": [str(one) for one in loaded.warnings]})
        return 0
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{arguments.file}: valid")
    return 0


def plan(arguments: Namespace) -> int:
    """Print what a seed would do."""
    loaded = load_experiment(Path(arguments.file), catalogue(tuple(arguments.plugin)))
    seed = next(one for one in (arguments.seed, loaded.experiment.seed, 0) if one is not None)
    drawn = draw_plan(loaded.experiment, seed)
    if arguments.json:
        sys.stdout.flush()
        sys.stdout.buffer.write(plan_json(drawn))
        return 0
    _print_plan(drawn)
    return 0


def run(arguments: Namespace) -> int:
    """Run a round."""
    known = catalogue(tuple(arguments.plugin))
    loaded = load_experiment(Path(arguments.file), known)
    seed = next((one for one in (arguments.seed, loaded.experiment.seed) if one is not None), None)
    drawn = draw_plan(loaded.experiment, secrets.randbelow(2**31) if seed is None else seed)
    loaded = _narrowed(loaded, arguments.max_injections)
    finished = _play(loaded, drawn, known, _options(arguments), arguments)
    code = _finish(finished, arguments, None)
    if arguments.triage and finished.verdict.verdict == "violated":
        _triage(finished, loaded, drawn, known, arguments)
    return code


def _triage(finished: Finished, loaded: Loaded, drawn: Plan, known: Catalogue, arguments: Namespace) -> None:
    """Play the same plan once more from a fresh state, and say whether it shows again. It stays a finding."""
    print(f"\ntriage: the same plan, seed {drawn.seed}, once more", file=sys.stderr)
    again = _play(loaded, drawn, known, _options(arguments, replay_of=finished.run.name), arguments)
    _try_page(again.run)
    shows = again.verdict.verdict == "violated"
    said = "it shows again" if shows else f"it did not show again: {again.verdict.verdict}, so it depends on the moment"
    print(f"triage: {said} ({_shown(again.path)})", file=sys.stderr)


def replay(arguments: Namespace) -> int:
    """Carry out the decisions of a stored run again."""
    known = catalogue(tuple(arguments.plugin))
    stored = find_run(arguments.run, Path(arguments.out))
    drawn = recorded_plan(stored, known)
    loaded = _as_recorded(stored, known)
    loaded = _narrowed(loaded, arguments.max_injections)
    finished = _play(loaded, drawn, known, _options(arguments, replay_of=stored.name), arguments)
    divergences = compare(stored.events(), finished.run.events())
    try:
        write_whole(finished.run.divergence, msgspec.json.format(msgspec.json.encode(divergences), indent=2) + b"\n")
    except OSError as problem:
        # As with the page: the verdict stands, and what diverged is shown below.
        print(f"croupier: {finished.run.divergence.name} could not be written: {problem.strerror}", file=sys.stderr)
    return _finish(finished, arguments, divergences)


def _as_recorded(stored: RunDir, known: Catalogue) -> Loaded:
    """The experiment as it was given, in the directory that it was given in: its programs live there."""
    first = next(stored.events(), None)
    if not isinstance(first, j.RunStarted):
        raise ExperimentError("the journal does not say which experiment it is of", at=str(stored.journal))
    recorded = load_experiment(stored.experiment, known)
    if digest(recorded.source) != first.experiment_digest:
        raise ReplayError(
            "the stored experiment is not the one that was run",
            at=str(stored.experiment),
            hint="it was changed after the run; `croupier run` plays a changed file as a round of its own",
        )
    file = Path(first.experiment_file)
    if not file.parent.is_dir():
        hint = "bring that directory back: the programs of the experiment are found from there"
        if HIDDEN in first.experiment_file:
            hint = "its path held a secret, which is not written down; run the stored experiment.yaml with --seed"
        raise ReplayError("the directory of the experiment is not there", at=str(file.parent), hint=hint)
    return replace(recorded, path=file)


def _narrowed(loaded: Loaded, most: int | None) -> Loaded:
    """The same experiment with a lower limit of injections: the command line may narrow, never widen."""
    if most is None:
        return loaded
    if most < 0:
        raise ExperimentError("a number of injections cannot be below 0", at="--max-injections")
    given = loaded.experiment.limits.injections
    limits = msgspec.structs.replace(loaded.experiment.limits, injections=most if given is None else min(most, given))
    return replace(loaded, experiment=msgspec.structs.replace(loaded.experiment, limits=limits))


def _options(arguments: Namespace, replay_of: str = "") -> Options:
    return Options(
        live=arguments.live,
        rehearsal=arguments.dry_run,
        out=str(Path(arguments.out).absolute()),
        replay_of=replay_of,
        plugins=tuple(arguments.plugin),
        argv=tuple(sys.argv),
    )


def _play(loaded: Loaded, drawn: Plan, known: Catalogue, options: Options, arguments: Namespace) -> Finished:
    quiet = arguments.json or arguments.no_progress
    if quiet:
        return run_round(loaded, drawn, known, options)
    from .live import LiveView, PlainView

    view = LiveView(drawn, loaded.experiment) if sys.stderr.isatty() else PlainView(drawn, loaded.experiment)
    with view:
        return run_round(loaded, drawn, known, options, listen=view.feed, tick=view.tick)


def _finish(finished: Finished, arguments: Namespace, divergences: tuple[Divergence, ...] | None) -> int:
    """Write the page and say how it went; `divergences` is None where nothing was replayed."""
    verdict, stored = finished.verdict, finished.run
    page = _try_page(stored)
    if arguments.json:
        sys.stdout.buffer.write(
            msgspec.json.encode({"path": finished.path, "report": page, "verdict": verdict, "divergences": divergences})
            + b"\n"
        )
        return verdict.exit_code
    if divergences:
        print("\nwhere the world diverged from the recorded run:")
        for one in divergences:
            whose = f"injection {one.injection}" if one.injection else "the run"
            print(f"  {whose}: {one.what} was {one.then}, now {one.now}")
    elif divergences is not None:
        print("\nnothing diverged from the recorded run")
    print()
    print(report.summary(verdict))
    print(f"  replay   croupier replay {_shown(finished.path)}")
    print(f"  page     {page or 'could not be written'}")
    print(f"verdict: {verdict.verdict}")
    return verdict.exit_code


def _shown(path: str) -> str:
    """A path as a person would type it from here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _try_page(stored: RunDir) -> str:
    try:
        return str(write_page(stored))
    except KeyboardInterrupt:
        print(f"croupier: interrupted; `croupier report {_shown(str(stored.path))}` writes the page", file=sys.stderr)
        return ""
    except Exception as problem:
        # The round is over and its verdict stands: a page that cannot be written must not change the exit code.
        print(f"croupier: the page could not be written: {type(problem).__name__}: {problem}", file=sys.stderr)
        return ""


def _print_plan(drawn: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{drawn.title}: seed {drawn.seed}, {drawn.blast_radius}", title_justify="left")
    for heading in ("#", "when", "fault", "target", "lot"):
        table.add_column(heading, justify="right" if heading in ("#", "lot") else "left", overflow="fold")
    for one in sorted(drawn.injections, key=_when):
        table.add_row(str(one.number), str(one.trigger), str(one.fault), str(one.target), f"{one.lot:016x}"[:6])
    Console().print(table)
    print(f"the round lasts {drawn.lasts_ms / 1000:g} s after its steady state; {len(drawn.injections)} injections")


def _when(injection: Injection) -> tuple[int, int]:
    """Fixed moments first, in their order; then what waits for something."""
    trigger = injection.trigger
    return (trigger.at_ms if isinstance(trigger, At) else sys.maxsize, injection.number)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
