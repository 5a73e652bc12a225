"""`judge`, `report` and `runs`: what stored runs say."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .. import report as reports
from ..collect.logs import read_log
from ..model.errors import ReplayError
from ..model.verdict import judge as judge_events
from ..run import Divergence
from ..store import RunDir, StoredRun, find_run, list_runs
from ..store.runs import write_whole
from ..store.searches import SearchDir, is_search


def judge(arguments: Namespace) -> int:
    """The verdict again, from the journal alone."""
    stored = find_run(arguments.run, Path(arguments.out))
    verdict = judge_events(stored.events())
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
    else:
        print(reports.summary(verdict))
        print(f"verdict: {verdict.verdict}")
    return verdict.exit_code


def report(arguments: Namespace) -> int:
    """The page again."""
    stored = find_run(arguments.run, Path(arguments.out))
    if is_search(stored.path):
        return _report_search(SearchDir(stored.path), arguments)
    path = write_page(stored)
    print(path)
    if arguments.junit:
        junit = Path(arguments.junit)
        try:
            write_whole(junit, reports.junit(judge_events(stored.events())))
        except OSError as problem:
            raise ReplayError(f"the JUnit file cannot be written: {problem.strerror}", at=str(junit)) from problem
        print(junit)
    if arguments.open:
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0


def _report_search(found: SearchDir, arguments: Namespace) -> int:
    """The page of a search again."""
    from .explore import write_search_page

    result = found.read_result()
    if result is None:
        raise ReplayError("this search did not come to its end", at=str(found.path), hint="its journal says how far")
    path = write_search_page(found, result)
    print(path)
    if arguments.junit:
        raise ReplayError("a search has no JUnit file", at=str(found.path), hint="result.json has everything")
    if arguments.open:
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0


def runs(arguments: Namespace) -> int:
    """Past rounds, newest first."""
    found = list_runs(Path(arguments.out))
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        return 0
    if not found:
        print(f"no runs under {arguments.out}; `croupier run FILE` makes one")
        return 0
    from rich.console import Console
    from rich.text import Text

    styles = {"held": "green", "violated": "red", "unknown": "yellow"}
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(_seed(one)) for one in found)
    for one in found:
        line = Text(f"{one.started_utc[:19].replace('T', ' ') or 'no time':19}  {_seed(one):{width}}  ")
        line.append(f"{one.verdict:8}", styles.get(one.verdict, "dim"))
        # Whole and on one line, so that it can be copied; what broke goes below it.
        line.append(f"  {one.name}")
        console.print(line)
        if one.broke:
            console.print(Text(f"{'':19}  {reports.plain(one.broke)}", "dim"))
    return 0


def _seed(one: StoredRun) -> str:
    return "no seed" if one.seed is None else f"seed {one.seed}"


def write_page(stored: RunDir) -> Path:
    """Write `report.html` of a stored run, from its journal, its logs and its experiment."""
    verdict = judge_events(stored.events())
    page = reports.page(
        stored.events(),
        verdict,
        lambda process: _log_of(stored, process),
        experiment_text=stored.experiment.read_text(errors="replace") if stored.experiment.is_file() else "",
        divergences=_divergences(stored),
    )
    write_whole(stored.report, page.encode("utf-8", "replace"))
    return stored.report


def _divergences(stored: RunDir) -> tuple[Divergence, ...]:
    try:
        return msgspec.json.decode(stored.divergence.read_bytes(), type=tuple[Divergence, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def _log_of(stored: RunDir, process: str) -> Iterator[tuple[int, str, str]]:
    for stream in ("out", "err"):
        for at_us, line in read_log(stored.logs / f"{process}.{stream}.log"):
            yield at_us, stream, line
