"""Networks of a round: namespaces (network_namespaces(7)) that processes of ours keep, with wires between (veth(4)).

A namespace lasts as long as somebody lives in it, and the wires of one that ends are gone on both sides. So nothing of
a network outlives the processes that keep it, and there is no name on the machine to be left behind. What one is made
of stands in a file of the run, by which everybody finds the namespaces; a keeper's number alone is never trusted.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..model.target import Identity
from ..model.wiring import Home, Place, Wiring
from . import kernel, procs

VARIABLE = "CROUPIER_NETWORKS"
"""Where the wirings of a round are, for whoever needs them."""
KEEPING = ("unshare", "--net", "--", "sleep", "infinity")
"""The command of whoever keeps a namespace."""
_OWN = "/proc/thread-self/ns/net"
_WITHIN_S = 5.0
_SBIN = "/usr/sbin:/sbin"
_TRY = "ip link add croupier0 type veth peer name croupier1 && ip route add blackhole 198.18.0.0/24 && test -w %s"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@functools.cache
def lacking() -> str:
    """What this machine lacks for a network of our own, in a sentence; "" if nothing. Tried where nobody sees it."""
    if sys.platform != "linux":
        return "network namespaces are Linux's own"
    return missing("unshare", "nsenter", "ip") or tried(
        _TRY % _FORWARD,
        "no network can be made here (it takes CAP_SYS_ADMIN and CAP_NET_ADMIN): run as root, or in namespaces of its"
        " own (unshare --map-root-user --net --mount croupier …)",
    )


_PACKAGES = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "nft": "nftables"}


def missing(*programs: str) -> str:
    """Which of these programs is not installed, and how to get it; "" if all are."""
    for one in programs:
        if _found(one) is None:
            return f"{one} is not installed (apt-get install {_PACKAGES[one]})"
    return ""


def tried(script: str, otherwise: str) -> str:
    """Run a line of the shell in a namespace that ends with it. "", or `otherwise` with the reason where it fails."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "--", "sh", "-c", script], capture_output=True, text=True, timeout=_WITHIN_S,
            env=_env(), stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as problem:
        return f"{otherwise}: {problem}"
    if done.returncode == 0:
        return ""
    said = " ".join(done.stderr.split())
    return f"{otherwise}: {said}" if said else otherwise


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_SBIN}", "LC_ALL": "C"}


# Finding one.


def folder(run: str) -> Path:
    """Where the wirings of a run are."""
    return Path(run) / "networks"


def keep(wiring: Wiring, path: Path) -> None:
    """Write a wiring down, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(wiring))
    fresh.replace(path)


def wirings(env: Mapping[str, str]) -> Iterator[Wiring]:
    """The networks of a round that are set up now. `env` is that of the round."""
    where = env.get(VARIABLE, "")
    for path in sorted(Path(where).glob("*.json")) if where else ():
        try:
            yield msgspec.json.decode(path.read_bytes(), type=Wiring)
        except (OSError, msgspec.MsgspecError):
            # Taken down meanwhile.
            continue


def place(env: Mapping[str, str], network: str, name: str) -> Place:
    """Where somebody of this name is to live. Raises OSError where there is no such home."""
    for wiring in wirings(env):
        home = wiring.home(name) if wiring.name == network else None
        if home is not None:
            return Place(network=path_of(home.keeper), files=wiring.files)
    raise OSError(None, f"{name} has no home in the network {network}: it is gone, or was never set up")


def door_to(env: Mapping[str, str], host: str) -> str:
    """From where an address can be reached: a namespace of ours, or "" for an address that lies in no network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    for wiring in wirings(env):
        if address in ipaddress.ip_network(wiring.range):
            home = wiring.home("croupier")
            assert home is not None
            return path_of(home.keeper)
    return ""


def home_of(env: Mapping[str, str], who: Identity) -> tuple[Wiring, Home] | None:
    """Which network of the round a process lives in, and as whom; None for one that lives elsewhere."""
    lives = inode(f"/proc/{who.pid}/ns/net")
    if lives is None or not procs.alive(who):
        return None
    for wiring in wirings(env):
        for home in wiring.homes:
            if inode(f"/proc/{home.keeper.pid}/ns/net") == lives and procs.alive(home.keeper):
                return wiring, home
    return None


def path_of(keeper: Identity) -> str:
    """The namespace that somebody keeps. Raises OSError where that has ended, or lives where we do."""
    path = f"/proc/{keeper.pid}/ns/net"
    found = inode(path)
    if found is None or not procs.alive(keeper):
        raise OSError(None, f"the namespace that {keeper} kept is gone")
    if found == inode(_OWN):
        raise OSError(None, f"{keeper} has no network of its own")
    return path


def inode(path: str) -> int | None:
    """What tells one namespace from another; None where nobody is."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return None


# Acting in one.


def run(keeper: Identity, argv: Sequence[str], told: str = "") -> str:
    """Run a program in a namespace to its end, and answer what it printed. Raises OSError with what it said."""
    command = ["nsenter", f"--net={path_of(keeper)}", "--", *argv]
    try:
        done = subprocess.run(
            command, input=told, capture_output=True, text=True, timeout=_WITHIN_S, env=_env(), check=False
        )
    except subprocess.SubprocessError as problem:
        raise OSError(None, str(problem)) from problem
    if done.returncode != 0:
        raise OSError(None, f"{argv[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Have this thread be in a namespace: sockets that it makes meanwhile stay there. Raises OSError."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.enter_network(path)
        try:
            yield
        finally:
            kernel.enter_network(own)
    finally:
        os.close(own)


def wire(wiring: Wiring) -> None:
    """Connect the homes of a network to its hub. Raises OSError."""
    with inside(path_of(wiring.hub.keeper)):
        # What is sent on again by another way than it came is no forgery here.
        for name, value in (("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0"), ("ip_forward", "1")):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
    hub = wiring.hub.address
    wires = ["link set lo up"]
    for one in wiring.homes:
        path_of(one.keeper)
        wires += [
            f"link add {one.port} type veth peer name eth0 netns {one.keeper.pid}",
            f"link set {one.port} alias croupier:{wiring.name}:{one.name}",
            f"link set {one.port} addrgenmode none",
            f"addr add {hub}/32 dev {one.port}",
            f"link set {one.port} up",
            f"route add {one.address}/32 dev {one.port} src {hub}",
        ]
    run(wiring.hub.keeper, ["ip", "-batch", "-"], "\n".join(wires) + "\n")
    for one in wiring.homes:
        home = [
            "link set lo up",
            "link set eth0 addrgenmode none",
            f"addr add {one.address}/32 dev eth0",
            "link set eth0 up",
            f"route add {hub}/32 dev eth0 scope link",
            f"route add default via {hub} dev eth0",
        ]
        run(one.keeper, ["ip", "-batch", "-"], "\n".join(home) + "\n")
