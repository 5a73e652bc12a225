"""The experiment: the file that people write, validated into a value.

`load/` reads the file and says file:line for whatever is wrong; here is what it may say. Texts still hold their
`${…}` references: `bind` fills them in when a round begins, so that no secret and no port is ever stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from .arrangement import CROUPIER, Arrangement, JoinedSubnet, Proxy, Subnet, Volume
from .errors import ExperimentError
from .fault import Fault, SignalName, SyscallName
from .noun import Noun
from .probe import Probe
from .target import Selector
from .units import Bytes, Ms, Rate

BlastRadius = Literal["local", "ci", "lab", "canary"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Restart(Noun, frozen=True, kw_only=True):
    """When a supervised process is brought back, how soon, and when we give up on it.

    The delay of the k-th restart in a row is `delay * backoff**k`, at most `max_delay`, plus up to `jitter` of it
    drawn from the seed. More than `limit` restarts make the process *fatal*.
    """

    when: Literal["never", "unexpected", "always"] = "unexpected"
    """`unexpected`: after a signal, or an exit code that is not listed; `always`: after any end."""
    delay_ms: Ms = msgspec.field(name="delay", default=Ms(500))
    """Before the first restart in a row."""
    backoff: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    """By how much each further delay is longer."""
    max_delay_ms: Ms = msgspec.field(name="max_delay", default=Ms(30_000))
    """No delay is longer. Once ready for as long as this, a process starts from `delay` again."""
    jitter_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = msgspec.field(name="jitter", default=0)
    """Up to so many per cent are added to each delay, drawn from the seed."""
    limit: Rate = Rate(5, 60_000)
    """More restarts than this make the process *fatal*, and end the round."""
    exit_codes: tuple[int, ...] = (0,)
    """What counts as expected, for `unexpected`."""


class Stop(Noun, frozen=True, kw_only=True):
    """How a process is asked to end: the signal, and how long before the whole tree is killed."""

    signal: SignalName = "TERM"
    """Sent to the main process."""
    grace_ms: Ms = msgspec.field(name="grace", default=Ms(5_000))
    """Then the whole tree is killed."""


class Readiness(Noun, frozen=True, kw_only=True):
    """When a process counts as ready, or alive: one probe, asked every `every`."""

    probe: Probe
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))
    """Ready: how long a start may take, else the process has failed to start. Alive: how long it may fail before
    the process is restarted."""
    every_ms: Ms = msgspec.field(name="every", default=Ms(100))
    """From one answer to the next question."""


class ProcessSpec(Noun, frozen=True, kw_only=True):
    """A process that croupier starts and supervises, with everything that it starts in turn."""

    command: tuple[str, ...]
    """A program and its arguments. There is no shell."""
    env: dict[str, str] = {}
    """On top of the operator's environment."""
    cwd: str = ""
    """Relative to the experiment file; its directory by default."""
    ready: Readiness | None = None
    """When it counts as ready; without it, once it has stayed up for `start_grace`."""
    alive: Readiness | None = None
    """Asked while it is ready; when it fails for too long, the process is restarted."""
    start_grace_ms: Ms = msgspec.field(name="start_grace", default=Ms(0))
    """Must stay up this long to count as started, where there is no `ready`."""
    restart: Restart = Restart()
    """Whether, and how soon, it is brought back."""
    stop: Stop = Stop()
    """How it is ended."""
    forks_away: bool = False
    """The command daemonises: its end is no death, and the process that it leaves behind is the main one."""
    needs: tuple[Name, ...] = ()
    """Processes that must be ready before this one is started."""
    network: str = ""
    """The network that it lives in, a name under `networks`; by default the host's."""


class Workload(Noun, frozen=True, kw_only=True):
    """What uses the program during the round. Lines `ack ID` that it prints are acknowledgements."""

    command: tuple[str, ...]
    """A program and its arguments. There is no shell."""
    env: dict[str, str] = {}
    """On top of the operator's environment."""
    cwd: str = ""
    """Relative to the experiment file; its directory by default."""
    stop: Stop = Stop()
    """How it is ended when the round is over."""
    exit_codes: tuple[int, ...] = (0,)
    """How it may end by itself; anything else means that evidence is missing."""
    network: str = ""
    """The network that it lives in, a name under `networks`; by default the host's."""


class LogTrigger(Noun, frozen=True, kw_only=True):
    """A process prints a line that matches; `nth` counts matches from 1, from the steady state on."""

    process: str
    """Who prints it; a name under `processes`, or `workload`."""
    match: str
    """A regular expression (Python's), searched in each line."""
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    """The how-manieth match is meant."""


class SyscallTrigger(Noun, frozen=True, kw_only=True):
    """A process is about to make a system call; `nth` counts matches from 1.

    Calls of its whole tree count, from the moment at which the steady state was seen, over all its restarts. The call
    stands still until the injection has been carried out, and is done only then, if the process still lives.
    """

    process: str
    """Who makes it; a name under `processes`."""
    call: SyscallName = "any"
    """Its name, like `fsync`; `any` for every call that changes a file."""
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    """The how-manieth match is meant."""
    path: str = ""
    """A glob over the path that the call is about, or over its last part; all by default."""


class On(Noun, frozen=True, kw_only=True):
    """A moment that the program under test makes: a line of its log, or a system call. Exactly one of the two."""

    log: LogTrigger | None = None
    """The line to wait for."""
    syscall: SyscallTrigger | None = None
    """The call to wait for."""
    plus_ms: Ms = msgspec.field(name="plus", default=Ms(0))
    """So long after it."""


class After(Noun, frozen=True, kw_only=True):
    """So long after another injection was carried out; injections are numbered from 1 in the order of the file."""

    injection: Annotated[int, msgspec.Meta(ge=1)]
    """Its number."""
    plus_ms: Ms = msgspec.field(name="plus", default=Ms(0))
    """So long after it."""


class WheelEntry(Noun, frozen=True, kw_only=True):
    """A fault on the wheel, with its weight; `when_blast_radius` gives another weight per stage."""

    fault: Fault
    target: Selector
    """Whom it may hit."""
    weight: Weight = 1
    """How often it is drawn, against the other weights. 0 is never."""
    when_blast_radius: dict[BlastRadius, Weight] = {}
    """Stage to weight, where it is another one there."""

    def weight_at(self, stage: BlastRadius) -> int:
        """The weight that counts in this stage."""
        return self.when_blast_radius.get(stage, self.weight)


class ExactInjection(Noun, frozen=True, kw_only=True):
    """One injection that the file names: a fault, a target, and exactly one trigger."""

    fault: Fault
    target: Selector
    """Whom it hits."""
    at_ms: Ms | None = msgspec.field(name="at", default=None)
    """So long after the steady state was seen."""
    after: After | None = None
    """After another injection."""
    on: On | None = None
    """When the program does something."""


class Schedule(Noun, frozen=True, kw_only=True):
    """When the wheel turns: every so often, give or take `jitter`, for so long."""

    every_ms: Ms = msgspec.field(name="every")
    """From one turn to the next."""
    for_ms: Ms = msgspec.field(name="for")
    """From the steady state to the end of the round."""
    jitter_ms: Ms = msgspec.field(name="jitter", default=Ms(0))
    """Each turn comes up to so much earlier or later."""


class Window(Noun, frozen=True, kw_only=True):
    """When injections are allowed at all: weekdays, hours of the day, in a time zone (an IANA name)."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
        "mon", "tue", "wed", "thu", "fri", "sat", "sun",
    )  # fmt: skip
    """All by default."""
    start: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = msgspec.field(
        name="from", default="00:00"
    )
    """`HH:MM`."""
    end: Annotated[str, msgspec.Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")] = msgspec.field(
        name="to", default="24:00"
    )
    """Earlier than `from`: the window runs over midnight."""
    zone: str = "UTC"
    """An IANA name, like `Europe/Berlin`."""


class Cluster(Noun, frozen=True, kw_only=True):
    """What of Kubernetes may be touched: exact names. What is not named here is refused, and so is `kube-system`."""

    contexts: tuple[str, ...] = ()
    """Contexts of the kubeconfig: which cluster, and as whom."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose pods may be hit."""
    nodes: tuple[str, ...] = ()
    """Nodes that may be cordoned or drained."""


class Limits(Noun, frozen=True, kw_only=True):
    """The blast radius, in numbers and names. What croupier did not start gets one injection unless said otherwise."""

    injections: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The most that one round makes; without it, one on processes that croupier did not start, and any number on its
    own."""
    rate: Rate = Rate(60, 60_000)
    """The most in any window of time."""
    concurrent: Annotated[int, msgspec.Meta(ge=1)] = 1
    """The most faults that hold somebody at the same time."""
    allow: tuple[Selector | str, ...] = ()
    """Names (globs) of processes, or selectors. Where it is not empty, nothing else may be touched."""
    deny: tuple[Selector | str, ...] = ()
    """Names (globs) of processes, or selectors, that may not be touched, whatever `allow` says."""
    cluster: Cluster = Cluster()
    """What of Kubernetes may be touched; nothing, unless it is named here."""
    window: Window | None = None
    """Outside of it, nothing is injected."""
    time_box_ms: Ms | None = msgspec.field(name="time_box", default=None)
    """The whole round, start to stop; by default ten minutes more than its parts may take."""


class FailingProbe(Noun, frozen=True, kw_only=True):
    """A probe that may not fail for longer than this, at any time of the round."""

    probe: Probe
    failing_for_ms: Ms = msgspec.field(name="failing_for", default=Ms(0))
    """How long it may fail in a row."""
    every_ms: Ms = msgspec.field(name="every", default=Ms(500))
    """From one answer to the next question."""


class CrashRate(Noun, frozen=True, kw_only=True):
    """Deaths that no injection caused may not come faster than this."""

    of: str
    """A name under `processes`."""
    more_than: Rate
    """The round is ended when there are more."""


class SlowRecovery(Noun, frozen=True, kw_only=True):
    """No recovery may take longer than this."""

    of: str
    """A name under `processes` or `attach`."""
    longer_than_ms: Ms = msgspec.field(name="longer_than")
    """The round is ended when one takes longer."""


class Abort(Noun, frozen=True, kw_only=True):
    """One condition that ends the round at once; exactly one of the three is given."""

    failing: FailingProbe | None = None
    """A probe that fails for too long."""
    crashes: CrashRate | None = None
    """Deaths that no injection caused."""
    recovery: SlowRecovery | None = None
    """A recovery that does not come."""


class Collect(Noun, frozen=True, kw_only=True):
    """What is gathered beside the journal."""

    log_bytes: Bytes = msgspec.field(name="log_size", default=Bytes(20 * 2**20))
    """Per process; then its log is rotated once, so at most twice this stays on disk."""
    sample_every_ms: Ms = msgspec.field(name="sample_every", default=Ms(1_000))
    """How often CPU, memory, open files and threads of each tree are written down."""
    cores: bool = False
    """Raise the core limit of started processes, keep dumps, and ask gdb for a back-trace where it is there."""
    redact: tuple[str, ...] = ()
    """Regular expressions; what they match never reaches the disk. Secrets of the environment never do anyway."""


class Experiment(Noun, frozen=True, kw_only=True):
    """Everything that one file says."""

    version: Literal[1]
    """Of this format."""
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """What the round shows; the folder of its runs is named after it."""
    hypothesis: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    """What must stay true, in a sentence."""
    blast_radius: BlastRadius = "local"
    """The stage. It chooses weights on the wheel, and stands in the journal."""
    seed: int | None = None
    """Unless one is given on the command line."""
    processes: dict[Name, ProcessSpec] = {}
    """Name to what croupier starts and supervises."""
    attach: dict[Name, Selector] = {}
    """Name to how a process that croupier did not start is found. Only rehearsed, unless `--live` is given and
    `limits.allow` names it."""
    volumes: dict[Name, Volume] = {}
    """Name to a file system of a limited size that croupier makes for the round; `${volume.NAME}` is its path."""
    proxies: dict[Name, Proxy] = {}
    """Name to a proxy between processes; `${proxy.NAME}` is where it listens, as `host:port` or a path."""
    networks: dict[Name, Subnet] = {}
    """Name to a network of the round's own; processes live in it by `network: NAME`, and `${address.PROCESS}` is where
    one is found there."""
    workload: Workload | None = None
    """What uses the program during the round."""
    steady_state: tuple[Probe, ...] = ()
    """Health: gates the start, and has to hold again after."""
    steady_within_ms: Ms = msgspec.field(name="steady_within", default=Ms(30_000))
    """How long the steady state may take to come before the round."""
    faults: tuple[WheelEntry, ...] = ()
    """The wheel."""
    schedule: Schedule | None = None
    """When the wheel turns."""
    injections: tuple[ExactInjection, ...] = ()
    """Exact injections, beside the wheel or instead of it."""
    limits: Limits = Limits()
    """What holds the blast radius."""
    abort_when: tuple[Abort, ...] = ()
    """Conditions that end the round, watched all the time."""
    settle_ms: Ms = msgspec.field(name="settle", default=Ms(30_000))
    """How long recovery and the steady state may take to come back once the last fault is healed."""
    invariants: tuple[Probe, ...] = ()
    """The questions at the end."""
    collect: Collect = Collect()
    """What is gathered beside the journal."""

    def arranged(self) -> Iterator[tuple[str, str, Arrangement]]:
        """Everything that is set up around the processes: its kind, its name, and what it is to be."""
        yield from (("volume", name, spec) for name, spec in self.volumes.items())
        yield from (("proxy", name, spec.listening(name)) for name, spec in self.proxies.items())
        yield from (("subnet", name, spec) for name, spec in self.joined().items())

    def joined(self) -> dict[str, JoinedSubnet]:
        """The networks, each with those who live there."""
        homes = {name: spec.network for name, spec in self.processes.items()}
        if self.workload is not None:
            homes["workload"] = self.workload.network
        return {
            name: spec.joined(nth, (who for who, home in homes.items() if home == name))
            for nth, (name, spec) in enumerate(self.networks.items())
        }

    def addresses(self) -> dict[str, str]:
        """The address of each process that lives in a network, and of the workload."""
        own = {who: home for one in self.joined().values() for who, home in one.addresses.items()}
        return {who: address for who, address in own.items() if who != CROUPIER}

    def selectors(self) -> Iterator[Selector]:
        """Every selector in the file."""
        yield from self.attach.values()
        aimed = [(one.fault, one.target) for one in self.faults]
        aimed += [(one.fault, one.target) for one in self.injections]
        for fault, target in aimed:
            yield target
            yield from (part.target for part in fault.parts if part.target is not None)
        yield from (listed for listed in (*self.limits.allow, *self.limits.deny) if isinstance(listed, Selector))


class Bindings(Noun, frozen=True, kw_only=True):
    """What `${…}` stands for in one round. `env` is read from the operator's environment and never stored."""

    state: str
    acks: str
    seed: int
    ports: dict[str, int] = {}
    env: dict[str, str] = {}
    arranged: dict[str, str] = {}
    """`KIND.NAME` of each arrangement to what stands for it."""

    def lookup(self, reference: str) -> str:
        """The text for `state`, `acks`, `seed`, `port.NAME`, `env.NAME`, or an arrangement's (`volume.NAME`,
        `proxy.NAME`, `subnet.NAME`, `address.NAME`).

        Raises ExperimentError for others.
        """
        kind, _, name = reference.partition(".")
        simple = {"state": self.state, "acks": self.acks, "seed": str(self.seed)}
        if not name and kind in simple:
            return simple[kind]
        if kind == "port" and name in self.ports:
            return str(self.ports[name])
        if kind == "env" and name in self.env:
            return self.env[name]
        if reference in self.arranged:
            return self.arranged[reference]
        raise ExperimentError(
            f"${{{reference}}} stands for nothing",
            hint="known are ${state}, ${acks}, ${seed}, ${port.NAME}, ${env.NAME} of a variable that is set, and"
            " ${volume.NAME} of a volume, ${proxy.NAME} of a proxy, ${subnet.NAME} of a network, ${address.NAME} of a"
            " process that lives in one; write $${ for a literal ${",
        )


_REFERENCE = re.compile(r"\$?\$\{([^}]*)\}")
T = TypeVar("T")


def references(value: object) -> Iterator[str]:
    """Every reference in the texts of a value, without `${` and `}`, in order, repeats included."""
    if isinstance(value, str):
        yield from (found[1] for found in _REFERENCE.finditer(value) if not found[0].startswith("$$"))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from references(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from references(one)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from references(getattr(value, name))


def bind(value: T, lookup: Callable[[str], str]) -> T:
    """The same value with every reference in its texts replaced; `$${` becomes a literal `${`."""
    return _bind(value, lookup)  # type: ignore[no-any-return]


def _bind(value: Any, lookup: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: found[0][1:] if found[0].startswith("$$") else lookup(found[1]), value)
    if isinstance(value, dict):
        return {key: _bind(one, lookup) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_bind(one, lookup) for one in value)
    if isinstance(value, msgspec.Struct):
        changed = {name: _bind(getattr(value, name), lookup) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    return value
