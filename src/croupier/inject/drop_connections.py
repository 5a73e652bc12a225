"""Drop_connections: backends of a PostgreSQL server are terminated, and seen to be gone.

A backend is told by its pid and the moment at which it began, so that one which got the same pid meanwhile is never
meant. A connection that is gone is gone: there is nothing to write down beforehand, and nothing to put back.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..model.choice import ChoiceStream
from ..model.fault import Fault
from ..model.faults.database import DropConnections
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs, psql
from ..system.clock import now_us
from . import Act, Outcome

_SEEN_WITHIN_MS = 5_000
_BEGAN = "(extract(epoch FROM backend_start) * 1000000)::bigint"
_LIST = f"""SELECT pid, {_BEGAN}, datname, usename, application_name FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> '{psql.NAME}'
ORDER BY backend_start, pid;
"""

_Backend = tuple[str, str]
"""Its pid, and when it began, in microseconds since 1970."""


class DropConnectionsInjector:
    """Carries out `drop_connections`."""

    kind = "drop_connections"
    spec: type[Fault] = DropConnections
    summary = "Terminate connections of a PostgreSQL server from its side: all, some, or those that match."
    needs = "psql, and a user who may signal backends: the same as theirs, pg_signal_backend, or a superuser."
    heals = "There is nothing to put back: whoever lost its connection connects again, or does not."
    example = 'drop_connections: {postgres: "host=/run/app dbname=app", percent: 50%}'

    def lacking(self, fault: DropConnections) -> str:
        """Whether the options belong together, and whether psql is there."""
        if fault.count is not None and fault.percent is not None:
            return "give either count or percent"
        return psql.lacking()

    def inject(self, permit: Permit, fault: DropConnections, act: Act) -> Outcome:
        """Terminate them once, whoever the targets are; landed when a backend that was chosen is gone."""
        decided_us = now_us()
        lack = self.lacking(fault)
        outcome = Outcome(result="missed", detail=lack) if lack else _drop(permit, fault, act)
        return Outcome(result=outcome.result, detail=outcome.detail, us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: DropConnections, act: Act) -> None:
        """It does not last."""

    def heal(self, record: UndoRecord) -> Healing:
        """Nothing: a connection cannot be given back."""
        return Healing(verified=True, note="a connection that was dropped cannot be given back")


def _drop(permit: Permit, fault: DropConnections, act: Act) -> Outcome:
    target = permit.targets[0]
    listed = psql.ask(fault.postgres, _LIST, act.env, halted=lambda: act.halted)
    if listed.failed:
        return Outcome(result="missed", detail=f"{target}: the server could not be asked: {listed.trouble}")
    matching = [(pid, began) for pid, began, *about in listed.rows if _is_meant(fault, about)]
    chosen = ChoiceStream(permit.injection.lot).sample(matching, _how_many(fault, len(matching)))
    if not chosen:
        return Outcome(result="missed", detail=f"{target}: no connection matches ({len(listed.rows)} are open)")
    # Asked last: whoever is gone, or was told to stop meanwhile, is nobody to do this to.
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: gone before connections could be dropped")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    told = psql.ask(fault.postgres, "".join(map(_terminate, chosen)), act.env, stops=False, halted=lambda: act.halted)
    return _seen(target, fault, act, chosen, told)


def _is_meant(fault: DropConnections, about: list[str]) -> bool:
    patterns = (fault.database, fault.user, fault.application)
    return all(not glob or fnmatchcase(text, glob) for glob, text in zip(patterns, about, strict=False))


def _how_many(fault: DropConnections, matching: int) -> int:
    if fault.percent is not None:
        return max(1, matching * int(fault.percent) // 100)
    return matching if fault.count is None else fault.count


def _terminate(backend: _Backend) -> str:
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_is(backend)};\n"


def _is(backend: _Backend) -> str:
    return f"(pid = {int(backend[0])} AND {_BEGAN} = {int(backend[1])})"


def _seen(target: Seen, fault: DropConnections, act: Act, chosen: tuple[_Backend, ...], told: psql.Answer) -> Outcome:
    """Look until all that were told to end are gone. Those that we may not end stay, and are not waited for."""
    listing = f"SELECT pid FROM pg_stat_activity WHERE {' OR '.join(map(_is, chosen))};\n"
    refused = len(chosen) - sum(row == ["t"] for row in told.rows) if told.trouble else 0
    left = len(chosen)

    def gone() -> bool:
        nonlocal left
        answer = psql.ask(fault.postgres, listing, act.env, halted=lambda: act.halted)
        left = len(chosen) if answer.failed else len(answer.rows)
        return left <= refused and not answer.failed

    act.wait(_SEEN_WITHIN_MS, gone)
    trouble = f"; {told.trouble}" if told.trouble else ""
    if left < len(chosen):
        dropped = f"{len(chosen) - left} of {len(chosen)}"
        return Outcome(result="landed", detail=f"{target}: {dropped} connections were dropped{trouble}")
    if refused == len(chosen) and not told.failed:
        return Outcome(result="missed", detail=f"{target}: no connection could be dropped{trouble}")
    return Outcome(result="unsure", detail=f"{target}: no connection was seen to be gone{trouble}")


INJECTOR = DropConnectionsInjector()
