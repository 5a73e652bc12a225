"""What a proxy costs while no fault is active, and how exact its faults are.

Peers carry the same bytes in the same run: a direct connection of the loopback, and socat where it is installed. The
three are asked in turn, several times, and the medians compared, since a busy machine changes from second to second.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from row import Row, median

from croupier.model.link import LinkRule
from croupier.system import relay
from croupier.system.clock import now_us

TURNS = 5
STREAM_BYTES = 256 << 20
AT_ONCE = bytes(1 << 18)
QUESTIONS = 2_000
ASKED_MS = 200

SERVER = """
import socket, sys, threading
door = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if peer.recv(1) == b"s":
        room, count = bytearray(1 << 18), 0
        while got := peer.recv_into(room):
            count += got
        peer.sendall(str(count).encode())
    else:
        while data := peer.recv(1 << 16):
            peer.sendall(data)
    peer.close()
while True:
    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
"""


def measure() -> Iterator[Row]:
    """Throughput of one stream, time added to a question, and a latency that was asked for."""
    with ExitStack() as stack:
        real, front, where = _proxied(stack)
        ports = {"direct": real, "ours": front}
        if shutil.which("socat"):
            ports["socat"] = _free_port()
            listen = f"TCP-LISTEN:{ports['socat']},bind=127.0.0.1,reuseaddr,fork,nodelay"
            _started(stack, ["socat", listen, f"TCP:127.0.0.1:{real},nodelay"])
            time.sleep(0.5)
        streamed, asked = _in_turns(ports, _stream), _in_turns(ports, _ask)
        yield from _throughput(streamed)
        yield from _added(asked)
        yield _exactness(where, front)


def _throughput(found: dict[str, float]) -> Iterator[Row]:
    for peer in sorted(found.keys() - {"ours"}):
        share = found["ours"] / found[peer]
        yield Row(
            name=f"proxy without a fault: one stream, beside {peer}",
            unit="MB/s",
            ours=found["ours"],
            peer=found[peer],
            peer_is=f"{peer}: ours carries {share:.0%} of it",
            target=">= 60 % of direct" if peer == "direct" else "-",
            met=peer != "direct" or share >= 0.6,
        )


def _added(found: dict[str, float]) -> Iterator[Row]:
    ours = found["ours"] - found["direct"]
    theirs = found["socat"] - found["direct"] if "socat" in found else None
    yield Row(
        name="proxy without a fault: added to a question, median",
        unit="us",
        ours=ours,
        peer=theirs,
        peer_is="socat",
        target="< 100 us",
        met=ours < 100,
    )


def latencies(asked_ms: Sequence[int]) -> Iterator[tuple[float, float]]:
    """What a latency is, median, for each that is asked for; in ms."""
    with ExitStack() as stack:
        _, front, where = _proxied(stack)
        for asked in asked_ms:
            yield asked, _latency_ms(where, front, asked)


def _proxied(stack: ExitStack) -> tuple[int, int, str]:
    """A server and a proxy in front of it: the ports of both, and how the proxy is spoken to."""
    real, front = _free_port(), _free_port()
    server = _started(stack, [sys.executable, "-S", "-c", SERVER, str(real)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    where = relay.control({relay.RUN: f"bench-{os.getpid()}"}, "front")
    _started(stack, [sys.executable, "-m", "croupier.relay", where, f"127.0.0.1:{front}", f"127.0.0.1:{real}"])
    while relay.ask(where) is None:
        time.sleep(0.01)
    return real, front, where


def _latency_ms(where: str, port: int, asked_ms: int) -> float:
    rule = LinkRule(
        key="1", until_us=now_us() + 60_000_000, everybody=True, direction="up", latency_us=asked_ms * 1_000
    )
    relay.add(where, rule)
    found_ms = _ask(port, 20) / 1_000
    relay.lift(where, "1")
    return found_ms


def _exactness(where: str, port: int) -> Row:
    found_ms = _latency_ms(where, port, ASKED_MS)
    return Row(
        name=f"network: a latency of {ASKED_MS} ms is, median",
        unit="ms",
        ours=found_ms,
        peer=None,
        peer_is="",
        target=f"{ASKED_MS} to {ASKED_MS + 5} ms",
        met=ASKED_MS <= found_ms <= ASKED_MS + 5,
    )


def _in_turns(ports: dict[str, int], measured: Callable[[int], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(TURNS):
        for name, port in ports.items():
            found[name].append(measured(port))
    return {name: median(values) for name, values in found.items()}


def _stream(port: int) -> float:
    """Megabytes in a second, from the first byte sent to the last one counted at the other end."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"s")
        began = time.perf_counter()
        for _ in range(STREAM_BYTES // len(AT_ONCE)):
            one.sendall(AT_ONCE)
        one.shutdown(socket.SHUT_WR)
        assert int(one.recv(100)) == STREAM_BYTES
        return STREAM_BYTES / (time.perf_counter() - began) / 1e6


def _ask(port: int, questions: int = QUESTIONS) -> float:
    """Microseconds from a question of 100 bytes to its answer, median."""
    took = []
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(b"e")
        for _ in range(questions):
            began = time.perf_counter()
            one.sendall(b"x" * 100)
            one.recv(1_000)
            took.append((time.perf_counter() - began) * 1e6)
    return median(took)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _started(stack: ExitStack, argv: list[str], stdout: int | None = None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=stdout)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process
