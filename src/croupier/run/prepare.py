"""Before a round: everything that can be refused or found missing, found while nothing has been touched yet."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .. import __version__
from ..collect.redact import Redactor, environment_digest
from ..model import journal as j
from ..model.errors import ExperimentError, Refused
from ..model.experiment import Bindings, Experiment, references
from ..model.faults.combined import single
from ..model.noun import Noun
from ..model.plan import Plan, digest, plan_json
from ..registry import Catalogue
from ..store import RunDir
from ..system import networks, procs
from .arrangements import references_to


class Options(Noun, frozen=True, kw_only=True):
    """How a round is to be run, beside what the experiment says."""

    live: bool = False
    rehearsal: bool = False
    out: str = "runs"
    replay_of: str = ""
    plugins: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    record_calls: tuple[str, ...] = ()
    """Processes of which every call that changes a file is written to `artifacts/calls.jsonl`."""


def refuse_what_cannot_be(plan: Plan, catalogue: Catalogue) -> None:
    """Ask every fault of the plan what this machine lacks for it. Raises Refused before anything is touched."""
    asked = set()
    for fault in (one for injection in plan.injections for one in single(injection.fault)):
        if (key := repr(fault)) in asked:
            continue
        asked.add(key)
        lacking = catalogue.injector(fault.kind).lacking(fault)
        if lacking:
            raise Refused(f"{fault} cannot be done here: {lacking}", hint="`croupier doctor` says what is missing")


def pick_bindings(experiment: Experiment, run: RunDir, seed: int) -> Bindings:
    """What `${…}` stands for in this round: fresh loopback ports, paths of the run, the operator's variables."""
    wanted = sorted(set(references((experiment, [spec for _, _, spec in experiment.arranged()]))))
    ports = [one.removeprefix("port.") for one in wanted if one.startswith("port.")]
    env = {
        name: os.environ[name]
        for one in wanted
        if one.startswith("env.") and (name := one.removeprefix("env.")) in os.environ
    }
    plain = Bindings(
        state=str(run.state),
        acks=str(run.acks),
        seed=seed,
        ports=dict(zip(ports, free_ports(len(ports)), strict=True)),
        env=env,
    )
    addresses = {f"address.{name}": address for name, address in experiment.addresses().items()}
    plain = msgspec.structs.replace(plain, arranged=addresses)
    return msgspec.structs.replace(plain, arranged={**addresses, **references_to(experiment, run, plain.lookup)})


def free_ports(count: int) -> list[int]:
    """Different TCP ports of the loopback that are free now; all are held until the last is found."""
    held = []
    try:
        for _ in range(count):
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            one.bind(("127.0.0.1", 0))
            held.append(one)
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def process_environment(bindings: Bindings, run: RunDir) -> dict[str, str]:
    """The environment of whatever a round starts: ours, with this interpreter's programs first on PATH."""
    env = dict(os.environ)
    own = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([own, *(one for one in env.get("PATH", os.defpath).split(os.pathsep) if one != own)])
    env["CROUPIER_STATE"] = bindings.state
    env["CROUPIER_ACKS"] = bindings.acks
    env["CROUPIER_SEED"] = str(bindings.seed)
    env[networks.VARIABLE] = str(networks.folder(str(run.path)))
    # Our own buffering of a child's output would hide acknowledgements that were made.
    env.setdefault("PYTHONUNBUFFERED", "1")
    return env


def first_line(
    experiment: Experiment, plan: Plan, run: RunDir, options: Options, source: bytes, file: Path, redactor: Redactor
) -> j.RunStarted:
    """The event that a journal opens with."""
    return j.RunStarted(
        journal=j.JOURNAL_VERSION,
        run=run.name,
        title=experiment.title,
        hypothesis=experiment.hypothesis,
        seed=plan.seed,
        blast_radius=experiment.blast_radius,
        live=options.live,
        rehearsal=options.rehearsal,
        croupier=__version__,
        python=platform.python_version(),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        host=socket.gethostname(),
        boot=procs.boot_id(),
        user=_user(),
        pid=os.getpid(),
        argv=options.argv,
        experiment_file=str(file),
        experiment_digest=digest(source),
        plan_digest=digest(plan_json(plan)),
        environment_digest=environment_digest(os.environ, redactor),
        wall_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
        replay_of=options.replay_of,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def start_order(experiment: Experiment) -> Iterator[str]:
    """The processes, each after those that it needs. Raises ExperimentError for a circle."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            raise ExperimentError("processes need each other in a circle", at=" → ".join((*path, name)))
        if name in done:
            return
        for needed in experiment.processes[name].needs:
            yield from visit(needed, (*path, name))
        done.add(name)
        yield name

    for name in experiment.processes:
        yield from visit(name, ())


def with_env(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """An environment with some variables set on top."""
    return {**base, **extra}
