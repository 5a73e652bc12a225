"""`explore`, `shrink`, and `replay` of a crash point."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec

from .. import report
from ..explore.api import setting_of, time_of
from ..explore.replaying import replay as replay_point
from ..explore.round_search import RoundSearch, setting_for
from ..explore.search import Search
from ..explore.shrinking import shrink as shrink_point
from ..model.errors import ExperimentError
from ..model.search import CrashPoint, Operation, SearchResult
from ..store.runs import write_whole
from ..store.searches import SearchDir


def explore(arguments: Namespace) -> int:
    """Search every crash point of a workload."""
    if not arguments.workload:
        raise ExperimentError("no workload was given", hint="croupier explore --check CMD -- WORKLOAD [ARG…]")
    check, check_call = arguments.check, arguments.check_call
    if not check and not check_call and _is_experiment(arguments.workload):
        return explore_rounds(arguments)
    if bool(check) == bool(check_call):
        raise ExperimentError("give one check: --check CMD, or --check-call module:function")
    setting = setting_of(
        arguments.workload,
        check or (check_call,),
        check_call=bool(check_call),
        setup=arguments.setup,
        until=arguments.until,
        state=arguments.state,
        model=arguments.model,
        torn=arguments.torn,
        depth=arguments.depth,
        jobs=arguments.jobs,
        budget=arguments.budget,
        title=arguments.name,
        check_timeout=arguments.check_timeout,
        timeout=arguments.timeout,
        stdin=arguments.stdin,
        level=arguments.level,
    )
    search = Search(
        setting, Path(arguments.out).absolute(), argv=sys.argv, progress=_progress if _is_watched(arguments) else None
    )
    result = _run(search, arguments)
    if isinstance(result, int):
        return result
    return _tell(arguments, search.dir, result, search.recording.operations, search.points)


def _is_experiment(words: list[str]) -> bool:
    return len(words) == 1 and Path(words[0]).suffix in (".yaml", ".yml", ".json") and Path(words[0]).is_file()


def explore_rounds(arguments: Namespace) -> int:
    """Search an experiment: a round for each call at which one of its processes could have died."""
    for option, value in (("--model", arguments.model != "kill"), ("--torn", arguments.torn),
                          ("--depth", arguments.depth != 1), ("--state", arguments.state),
                          ("--setup", arguments.setup), ("--until", arguments.until)):  # fmt: skip
        if value:
            raise ExperimentError(f"{option} is for a search of one workload", hint="an experiment says it in its file")
    setting, experiment = setting_for(
        Path(arguments.workload[0]),
        processes=arguments.process,
        budget=arguments.budget,
        jobs=arguments.jobs,
        record_ms=time_of(arguments.record, "--record"),
        title=arguments.name,
        plugins=tuple(arguments.plugin),
    )
    out = Path(arguments.out).absolute()
    search = RoundSearch(
        setting, experiment, out, argv=sys.argv, progress=_progress if _is_watched(arguments) else None
    )
    result = _run(search, arguments)
    if isinstance(result, int):
        return result
    return _tell(arguments, search.dir, result, search.operations, search.points)


def _is_watched(arguments: Namespace) -> bool:
    return sys.stderr.isatty() and not arguments.json


def _run(search: Search | RoundSearch, arguments: Namespace) -> SearchResult | int:
    """What a search says; an exit code where it was stopped before its end."""
    try:
        with _stoppable():
            result = search.run()
    except _Stopped as stopped:
        print(f"\ncroupier: {stopped}; what was found by then is in {search.dir.journal}", file=sys.stderr)
        return 128 + stopped.number
    if _is_watched(arguments):
        print("\r\x1b[K", end="", file=sys.stderr)
    return result


class _Stopped(BaseException):
    """A signal asked us to stop: everything is ended and taken away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def _stoppable() -> Iterator[None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        # A second one must not cut short what the first has begun.
        for kind in kinds:
            signal.signal(kind, signal.SIG_IGN)
        raise _Stopped(number)

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, on_signal) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _tell(
    arguments: Namespace,
    found: SearchDir,
    result: SearchResult,
    operations: Sequence[Operation],
    points: Sequence[CrashPoint],
) -> int:
    page = write_search_page(found, result)
    if arguments.json:
        print_json(result)
    else:
        print(report.search_summary(result, operations, points))
        print(f"  page: {page}")
    return result.exit_code


def write_search_page(found: SearchDir, result: SearchResult) -> Path:
    """Write `report.html` of a stored search."""
    first = found.started()
    page = report.search_page(
        result,
        first.setting,
        found.read_operations(),
        found.read_points(),
        started_utc=first.wall_utc,
        version=first.croupier,
        argv=first.argv,
    )
    write_whole(found.report, page.encode("utf-8", "replace"))
    return found.report


def replay(arguments: Namespace) -> int:
    """The state of a crash point, and the check on it; or the workload again, killed there."""
    again = replay_point(arguments.run, Path(arguments.out), live=arguments.live)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(again) + b"\n")
        return again.exit_code
    print(f"{again.point}: {'the check fails again' if again.shows else 'the check passes'}")
    if again.detail:
        print(f"  {report.plain(again.detail)}")
    if again.reason:
        print(f"  {report.plain(again.reason)}")
    print(f"  state: {again.state}")
    return again.exit_code


def shrink(arguments: Namespace) -> int:
    """The shortest workload, and the fewest operations, that still fail."""
    shrunk = shrink_point(arguments.run, Path(arguments.out), most=arguments.tries)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(shrunk) + b"\n")
        return shrunk.exit_code
    print(shrunk.said)
    return shrunk.exit_code


def print_json(result: SearchResult) -> None:
    """One object, and nothing else on standard output."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.flush()


def _progress(phase: str, done: int, total: int) -> None:
    if total and done % 7 and done != total:
        return
    said = f"{phase} {done:,} of {total:,}" if total else f"{phase} …"
    print(f"\r\x1b[K{said}", end="", file=sys.stderr, flush=True)
