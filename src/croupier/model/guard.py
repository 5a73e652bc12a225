"""The guard: the limits, and what holds them. It answers with a *permit* or a *refusal*; without a permit nobody acts.

Everything it needs to know is handed in, so every rule can be tested without a process: what lives (a census), what
the experiment allows (`Limits`), and how things stand (`Standing`). What is missing refuses: the guard fails closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, NoReturn

from .experiment import Experiment, Limits, Window
from .noun import Noun
from .plan import Injection
from .target import Census, Identity, Seen, Selector, choose, descendants, is_named, matches, may_be_named

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_GUARDED_NAMESPACES: Final = frozenset(("kube-system", "kube-public", "kube-node-lease"))


class Standing(Noun, frozen=True, kw_only=True):
    """How things stand at the moment of asking."""

    now_ms: int
    """Since the round began."""
    acted_ms: tuple[int, ...] = ()
    """When injections were permitted so far, in this round."""
    active: int = 0
    """Faults that hold somebody right now."""
    weekday: int | None = None
    """0 is Monday, in the window's time zone; None where the zone or the clock could not be read."""
    minute: int | None = None
    """Of the day, in the window's time zone."""
    live: bool = False
    """`--live` was given: processes that croupier did not start may be touched, if the allow list names them."""
    halted: bool = False


class Permit:
    """Leave to carry out one injection on these processes. Only `consider` makes one, and nobody widens it later."""

    __slots__ = ("_limits", "_standing", "injection", "parts", "ranks", "targets")

    injection: Injection
    targets: Census
    ranks: tuple[tuple[int, int], ...]
    """For each target, its rank among the candidates and how many there were."""
    parts: tuple[Permit, ...]
    """For an injection of several faults, the permit of each."""
    _limits: Limits
    _standing: Standing

    def __init__(
        self,
        seal: object,
        injection: Injection,
        targets: Census,
        ranks: tuple[tuple[int, int], ...],
        limits: Limits,
        standing: Standing,
        parts: tuple[Permit, ...] = (),
    ) -> None:
        if seal is not _SEAL:
            raise TypeError("only the guard makes permits: ask consider()")
        values = (injection, targets, ranks, limits, standing, parts)
        names = ("injection", "targets", "ranks", "_limits", "_standing", "parts")
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a permit is what the guard made it: ask consider() for another")

    def below(self, target: Identity, census: Census) -> Below:
        """Who of those below a target may be disturbed along with it, by the limits that the target itself met.

        Below the main process of a name is everybody of that name: in a cgroup not all descend from the first.
        `census` is of now, so that whoever was forked meanwhile is judged as well; with the ancestors, and the
        columns that the limits ask for. Nobody is free below a process that this permit is not about, or where the
        guard breaks.
        """
        if target not in {one.identity for one in self.targets}:
            return Below()
        ids = descendants(target.pid, census)
        role = next((one.role for one in census if one.identity == target and one.main), "")
        members = tuple(
            one for one in census if one.pid in ids or (role and one.role == role and one.identity != target)
        )
        try:
            barred = _all_barred(members, census, self._limits, self._standing)
        except Exception as broken:
            why = Refusal(limit="guard", reason=f"the guard could not decide: {type(broken).__name__}: {broken}")
            return Below(barred=tuple((one.identity, why) for one in members))
        return Below(
            free=tuple(one for one in members if one.identity not in barred),
            barred=tuple(barred.items()),
        )


class Refusal(Noun, frozen=True, kw_only=True):
    """The guard said no: which limit, why, and how to widen it."""

    limit: str
    reason: str
    hint: str = ""


class Below(Noun, frozen=True, kw_only=True):
    """Those below a target: who may be disturbed along with it, and who is left alone, with the reason."""

    free: Census = ()
    barred: tuple[tuple[Identity, Refusal], ...] = ()


class Absent(Noun, frozen=True, kw_only=True):
    """Nobody whom the selector means is alive: the injection is missed."""

    reason: str


_SEAL: Final = object()


def consider(
    injection: Injection, census: Census | None, limits: Limits, standing: Standing
) -> Permit | Refusal | Absent:
    """Decide whether this injection may go ahead now, and on whom.

    `census` is None where the machine could not be read: that refuses. So does a guard that breaks.
    """
    if census is None:
        return Refusal(limit="census", reason="the processes of this machine could not be read")
    try:
        return _consider(injection, census, limits, standing)
    except Exception as broken:  # Whatever went wrong in here, it must not let anything through.
        return Refusal(limit="guard", reason=f"the guard could not decide: {type(broken).__name__}: {broken}")


def joined(injection: Injection, parts: Sequence[Permit]) -> Permit:
    """One permit for an injection of several faults: it covers whom theirs cover, and nobody else."""
    covered: dict[Identity, tuple[Seen, tuple[int, int]]] = {}
    for part in parts:
        for target, rank in zip(part.targets, part.ranks, strict=True):
            covered.setdefault(target.identity, (target, rank))
    targets = tuple(target for target, _ in covered.values())
    ranks = tuple(rank for _, rank in covered.values())
    first = parts[0]
    return Permit(_SEAL, injection, targets, ranks, first._limits, first._standing, tuple(parts))


def _consider(injection: Injection, census: Census, limits: Limits, standing: Standing) -> Permit | Refusal | Absent:
    refusal = _consider_moment(limits, standing) or _consider_reach(injection, limits, standing)
    if refusal is not None:
        return refusal
    candidates = matches(injection.target, census)
    if not candidates:
        return Absent(reason=f"nobody alive matches: {injection.target}")
    # Protected processes, and those that nobody allowed, leave the wheel before the draw: a rank never lands on one.
    barred = _all_barred(candidates, census, limits, standing)
    free = [one for one in candidates if one.identity not in barred]
    if not free:
        return next(iter(barred.values()))
    foreign = any(not one.ours for one in free)
    if foreign and limits.injections is None and standing.acted_ms:
        return Refusal(
            limit="injections",
            reason="one injection was made, and more were not asked for on processes that croupier did not start",
            hint="set limits.injections",
        )
    chosen = choose(injection.target, free, injection.lot)
    if not chosen:
        return Absent(reason=f"nobody is to be taken: {injection.target}")
    rank = {one.identity: place for place, one in enumerate(free)}
    ranks = tuple((rank[one.identity], len(free)) for one in chosen)
    return Permit(_SEAL, injection, chosen, ranks, limits, standing)


def _consider_moment(limits: Limits, standing: Standing) -> Refusal | None:
    if standing.halted:
        return Refusal(limit="halt", reason="the round was halted")
    if limits.injections is not None and len(standing.acted_ms) >= limits.injections:
        return Refusal(
            limit="injections", reason=f"{limits.injections} injections were made", hint="raise limits.injections"
        )
    since = standing.now_ms - limits.rate.per_ms
    if sum(moment > since for moment in standing.acted_ms) >= limits.rate.count:
        return Refusal(limit="rate", reason=f"more than {limits.rate} would be made", hint="raise limits.rate")
    if standing.active >= limits.concurrent:
        return Refusal(
            limit="concurrent",
            reason=f"{standing.active} at work already, and {limits.concurrent} at a time is the limit",
            hint="raise limits.concurrent, or space the injections",
        )
    if limits.window is not None:
        return _consider_window(limits.window, standing)
    return None


def _consider_reach(injection: Injection, limits: Limits, standing: Standing) -> Refusal | None:
    """Whatever a fault touches beyond this machine has to be named, one by one, and asked for by `--live`."""
    allowed = {
        "context": limits.cluster.contexts, "namespace": limits.cluster.namespaces, "node": limits.cluster.nodes,
    }  # fmt: skip
    for kind, name in injection.fault.reaches:
        if kind == "namespace" and name in _GUARDED_NAMESPACES:
            return Refusal(limit="protected", reason=f"namespace {name} is protected: Kubernetes itself lives there")
        if name not in allowed[kind]:
            where = f"limits.cluster.{kind}s"
            return Refusal(limit="cluster", reason=f"{kind} {name!r} is not in {where}", hint=f"name it in {where}")
    if injection.fault.reaches and not standing.live:
        return Refusal(
            limit="live", reason="croupier did not start that cluster, so it is only rehearsed", hint="give --live"
        )
    return None


def _consider_window(window: Window, standing: Standing) -> Refusal | None:
    if standing.weekday is None or standing.minute is None:
        return Refusal(limit="window", reason=f"the time in zone {window.zone!r} could not be read")
    if is_open(window, standing.weekday, standing.minute):
        return None
    return Refusal(
        limit="window",
        reason=f"{_DAYS[standing.weekday]} {standing.minute // 60:02}:{standing.minute % 60:02} is outside of"
        f" {', '.join(window.days)} {window.start}-{window.end} {window.zone}",
        hint="wait, or change limits.window",
    )


def is_open(window: Window, weekday: int, minute: int) -> bool:
    """Whether the window is open; one that runs over midnight belongs to the day it began on."""
    start, end = _minutes(window.start), _minutes(window.end)
    if start <= end:
        return _DAYS[weekday] in window.days and start <= minute < end
    if minute >= start:
        return _DAYS[weekday] in window.days
    return _DAYS[weekday - 1] in window.days and minute < end


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return min(int(hours) * 60 + int(minutes), _DAY_MINUTES)


def _all_barred(candidates: Census, census: Census, limits: Limits, standing: Standing) -> dict[Identity, Refusal]:
    denied = _listed(limits.deny, candidates, census, doubtful=True)
    allowed = _listed(limits.allow, candidates, census)
    return {
        one.identity: why
        for one in candidates
        if (why := _barred(one, limits, standing, one.identity in denied, one.identity in allowed))
    }


def _barred(one: Seen, limits: Limits, standing: Standing, denied: bool, allowed: bool) -> Refusal | None:
    if one.protected:
        return Refusal(limit="protected", reason=f"{one} is protected: {one.protected}")
    if denied:
        return Refusal(
            limit="deny", reason=f"{one} is on the deny list", hint="see limits.deny; what it cannot read, it denies"
        )
    if not one.ours and not standing.live:
        return Refusal(
            limit="live",
            reason=f"croupier did not start {one}, so it is only rehearsed",
            hint="give --live, and name it in limits.allow",
        )
    if not allowed and (limits.allow or not one.ours):
        return Refusal(limit="allow", reason=f"{one} is not on the allow list", hint="name it in limits.allow")
    return None


def _listed(
    entries: tuple[Selector | str, ...], candidates: Census, census: Census, *, doubtful: bool = False
) -> set[Identity]:
    """Which of the candidates a list names; each entry is held against the census once."""
    named: set[Identity] = set()
    for entry in entries:
        if isinstance(entry, Selector):
            named |= {one.identity for one in matches(entry, census, doubtful=doubtful)}
        else:
            # The kernel keeps 15 bytes of a name. To be forbidden a maybe is enough, to be allowed it is not.
            names = may_be_named if doubtful else is_named
            meant = (one for one in candidates if fnmatchcase(one.role, entry) or names(entry, one))
            named |= {one.identity for one in meant}
    return named


def default_time_box_ms(experiment: Experiment, lasts_ms: int) -> int:
    """The longest that the whole round may take: what the file says, else the parts it is made of, and ten minutes."""
    if experiment.limits.time_box_ms is not None:
        return experiment.limits.time_box_ms
    return lasts_ms + experiment.steady_within_ms + experiment.settle_ms + 600_000
