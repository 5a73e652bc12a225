"""The proxy: what goes through comes out as it went in, unless a rule says otherwise, and again once it is lifted."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hands import eventually, identity, started
from proxied import Answerer, Proxied, a_free_port, a_proxy, is_silent, whole

from croupier.model.target import Identity
from croupier.system import procs, relay
from croupier.system.clock import now_us

SLOW_S = 0.25
LATENCY = {"latency_us": int(SLOW_S * 1_000_000)}


@pytest.fixture(scope="module")
def server() -> Iterator[Answerer]:
    one = Answerer()
    yield one
    one.close()


@pytest.fixture(scope="module")
def standing(server: Answerer) -> Iterator[Proxied]:
    with a_proxy(server.address) as one:
        yield one


@pytest.fixture
def proxy(standing: Proxied) -> Iterator[Proxied]:
    """The same proxy for all, with no rule in force before and after."""
    yield standing
    state = relay.ask(standing.where)
    assert state is not None
    for rule in state.rules:
        standing.lift(rule.key)


def asked(one: socket.socket, text: bytes = b"ping") -> float:
    """Send something and get it back; how long it took, in seconds."""
    began = time.monotonic()
    one.sendall(text)
    assert whole(one, len(text)) == text
    return time.monotonic() - began


def test_what_goes_through_is_what_comes_out(proxy: Proxied) -> None:
    data = random.Random(1).randbytes(8 << 20)
    with proxy.connect() as one:
        sender = threading.Thread(target=lambda: (one.sendall(data), one.shutdown(socket.SHUT_WR)))
        sender.start()
        back = whole(one, len(data) + 1)
        sender.join()
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_many_connections_at_once_do_not_mix(proxy: Proxied) -> None:
    links = [proxy.connect() for _ in range(40)]
    for nth, one in enumerate(links):
        one.sendall(b"%03d" % nth * 1_000)
    assert [whole(one, 3_000) for one in links] == [b"%03d" % nth * 1_000 for nth in range(40)]
    for one in links:
        one.close()
    assert eventually(lambda: (state := relay.ask(proxy.where)) and state.links == 0)


def test_a_unix_socket_is_carried_as_well(tmp_path) -> None:
    server = Answerer(str(tmp_path / "real"))
    with a_proxy(server.address, path=tmp_path / "front") as proxy, proxy.connect() as one:
        assert asked(one) < 5
        key = proxy.rule(tops=((os.getpid(), identity(os.getpid()).started),), everybody=False, **LATENCY)
        # The kernel says who is at the other end, so this process is known for the one that connected.
        assert asked(one) >= 2 * SLOW_S
        proxy.lift(key)
    server.close()


def test_nobody_behind_the_proxy_is_the_end_of_the_connection() -> None:
    with a_proxy(f"127.0.0.1:{a_free_port()}") as proxy, proxy.connect() as one:
        try:
            ended = one.recv(1) == b""
        except ConnectionError:
            ended = True
    assert ended


def test_latency_is_added_in_each_direction_and_gone_when_it_is_lifted(proxy: Proxied) -> None:
    with proxy.connect() as one:
        key = proxy.rule(**LATENCY)
        assert 2 * SLOW_S <= asked(one) < 2 * SLOW_S + 5
        up = proxy.rule(direction="up", **LATENCY)
        proxy.lift(key)
        assert asked(one) >= SLOW_S
        assert proxy.hits(up) == 1
        proxy.lift(up)
        assert asked(one) < SLOW_S


def test_what_waits_goes_on_as_soon_as_the_rule_is_lifted(proxy: Proxied) -> None:
    with proxy.connect() as one:
        key = proxy.rule(latency_us=50_000_000)
        one.sendall(b"ping")
        assert is_silent(one)
        proxy.lift(key)
        assert whole(one, 4) == b"ping"


def test_jitter_keeps_the_order(proxy: Proxied) -> None:
    with proxy.connect() as one:
        proxy.rule(latency_us=20_000, jitter_us=20_000)
        for nth in range(50):
            one.sendall(b"%02d" % nth)
        assert whole(one, 100) == b"".join(b"%02d" % nth for nth in range(50))


def test_a_bandwidth_is_what_was_asked_for(proxy: Proxied) -> None:
    with proxy.connect() as one:
        proxy.rule(direction="up", bandwidth_bytes=100_000)
        assert asked(one, bytes(50_000)) >= 0.49


def test_slices_arrive_one_after_the_other(proxy: Proxied, server: Answerer) -> None:
    with proxy.connect() as one:
        proxy.rule(direction="down", slice_bytes=10, slice_delay_us=60_000)
        began = time.monotonic()
        one.sendall(bytes(40))
        assert len(one.recv(100)) == 10
        assert whole(one, 30) == bytes(30)
        assert time.monotonic() - began >= 0.18


def test_a_limit_closes_the_connection_behind_the_last_byte(proxy: Proxied) -> None:
    with proxy.connect() as one:
        proxy.rule(direction="down", limit_bytes=10)
        one.sendall(bytes(100))
        assert len(whole(one, 100)) == 10


@pytest.mark.parametrize("after_us", [0, 100_000])
def test_a_reset_is_one(proxy: Proxied, after_us: int) -> None:
    with proxy.connect() as one:
        asked(one)
        key = proxy.rule(cut="reset", cut_after_us=after_us)
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        assert proxy.hits(key) == 1
        proxy.lift(key)
    with proxy.connect() as other:
        asked(other)


def test_a_time_out_passes_nothing_and_closes(proxy: Proxied) -> None:
    with proxy.connect() as one:
        key = proxy.rule(cut="time_out", cut_after_us=400_000)
        one.sendall(b"ping")
        assert is_silent(one)
        assert whole(one, 4) == b""
        assert proxy.hits(key) >= 1


def test_half_of_a_connection_may_be_closed(proxy: Proxied, server: Answerer) -> None:
    with proxy.connect() as one:
        asked(one)
        proxy.rule(cut="half_close", direction="down")
        assert one.recv(1) == b""
        one.sendall(b"still heard")
        assert eventually(lambda: any(heard.endswith(b"still heard") for heard in server.heard))


def test_a_black_hole_swallows_and_such_a_connection_is_never_used_again(proxy: Proxied, server: Answerer) -> None:
    with proxy.connect() as one, proxy.connect() as idle:
        asked(one)
        asked(idle)
        key = proxy.rule(cut="blackhole")
        one.sendall(b"swallowed")
        assert eventually(lambda: proxy.hits(key) == 1)
        assert is_silent(one)
        proxy.lift(key)
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        asked(idle)
    assert not any(b"swallowed" in heard for heard in server.heard)


def test_a_partition_holds_everything_and_loses_nothing(proxy: Proxied) -> None:
    with proxy.connect() as one:
        key = proxy.rule(cut="partition")
        one.sendall(b"held")
        assert is_silent(one)
        with proxy.connect() as new:
            new.sendall(b"new")
            assert is_silent(new)
            proxy.lift(key)
            assert whole(new, 3) == b"new"
        assert whole(one, 4) == b"held"


def test_a_partition_may_be_one_way(proxy: Proxied, server: Answerer) -> None:
    with proxy.connect() as one:
        key = proxy.rule(cut="partition", direction="down")
        one.sendall(b"it gets there")
        assert eventually(lambda: any(heard == b"it gets there" for heard in server.heard))
        assert is_silent(one)
        proxy.lift(key)
        assert whole(one, 13) == b"it gets there"


def test_the_proxy_is_not_busy_while_somebody_goes_away_during_a_partition(proxy: Proxied) -> None:
    key = proxy.rule(cut="partition")
    with proxy.connect() as one:
        one.sendall(b"x")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    before = procs.usage([proxy.process.pid]).cpu_seconds
    time.sleep(0.5)
    assert procs.usage([proxy.process.pid]).cpu_seconds - before < 0.25
    proxy.lift(key)


def test_a_connection_is_doubled(proxy: Proxied, server: Answerer) -> None:
    key = proxy.rule(duplicate=True)
    before = len(server.heard)
    with proxy.connect() as one:
        assert asked(one, b"once") < 5
        assert eventually(lambda: [bytes(heard) for heard in server.heard[before:]] == [b"once", b"once"])
        assert proxy.hits(key) == 1
        assert is_silent(one, 0.1)


def test_a_query_waits_and_what_belongs_to_it_does_not_wait_again(proxy: Proxied) -> None:
    with proxy.connect() as one:
        key = proxy.rule(query_least_us=200_000, query_most_us=250_000, match="SELECT")
        assert 0.2 <= asked(one, b"SELECT 1;") < 5
        assert asked(one, b"BEGIN;") < 0.2
        one.sendall(b"SELECT")
        time.sleep(0.05)
        one.sendall(b" 2;")
        assert whole(one, 9) == b"SELECT 2;"
        assert proxy.hits(key) == 2


def test_messages_are_changed_as_the_seed_draws(proxy: Proxied) -> None:
    def changed(seed: int) -> list[bytes]:
        # The draws belong to a number of a connection: the same for a new one of a new proxy.
        with a_proxy(server.address) as other, other.connect() as one:
            other.rule(direction="up", mutations=("flip",), every=2, seed=seed)
            answers = []
            for nth in range(6):
                text = b"message %d" % nth
                one.sendall(text)
                answers.append(whole(one, len(text)))
            return answers

    server = Answerer()
    first = changed(7)
    assert [one == b"message %d" % nth for nth, one in enumerate(first)] == [True, False] * 3
    assert changed(7) == first
    assert changed(8) != first
    server.close()


def test_messages_are_counted_over_all_connections(proxy: Proxied) -> None:
    proxy.rule(direction="up", mutations=("flip",), every=3)
    answers = []
    for _ in range(6):
        with proxy.connect() as one:
            one.sendall(b"once")
            answers.append(whole(one, 4))
    assert [one == b"once" for one in answers] == [True, True, False] * 2


def test_half_a_changed_message_is_passed_and_the_rest_waits(proxy: Proxied, server: Answerer) -> None:
    with proxy.connect() as one:
        key = proxy.rule(direction="up", mutations=("flip",), torn=True)
        one.sendall(b"0123456789")
        assert len(whole(one, 5)) == 5
        assert is_silent(one)
        state = relay.ask(proxy.where)
        assert state is not None
        assert state.rules[0].torn
        proxy.lift(key)
        assert len(whole(one, 5)) == 5


def test_a_rule_ends_by_itself_when_nobody_lifts_it(proxy: Proxied) -> None:
    with proxy.connect() as one:
        proxy.rule(cut="partition", until_us=now_us() + 300_000)
        one.sendall(b"ping")
        assert whole(one, 4) == b"ping"
        state = relay.ask(proxy.where)
        assert state is not None
        assert state.rules == ()


def test_a_rule_means_the_connections_of_its_processes_and_no_others(proxy: Proxied, server: Answerer) -> None:
    program = (
        "import socket, sys, time\n"
        f"one = socket.create_connection(('127.0.0.1', {proxy.port}))\n"
        "while True:\n"
        "    began = time.monotonic(); one.sendall(b'x'); one.recv(1)\n"
        "    print('slow' if time.monotonic() - began > 0.1 else 'fast', flush=True); time.sleep(0.01)\n"
    )
    with (
        proxy.connect() as mine,
        started("sh", "-c", '"$0" -S -c "$1"; true', sys.executable, program, ready=b"fast") as other,
    ):
        key = proxy.rule(tops=((other.pid, other.started),), latency_us=150_000)
        # The connection belongs to a child of the shell, which is meant with it.
        assert eventually(lambda: proxy.hits(key) > 2)
        assert asked(mine) < 0.15
        proxy.lift(key)
        earlier = Identity(pid=other.pid, started=other.started - 1)
        key = proxy.rule(tops=((earlier.pid, earlier.started),), latency_us=150_000)
        state = relay.ask(proxy.where)
        assert state is not None
        assert state.rule(key).links == 0
        key = proxy.rule(tops=((os.getpid(), identity(os.getpid()).started),), latency_us=1_000)
        state = relay.ask(proxy.where)
        # This process is the one that takes what comes to the server: all connections are its own.
        assert state.rule(key).links == 2
        for child in procs.family(other.pid):
            os.kill(child.pid, 9)


def test_a_share_of_connections_is_drawn_from_the_seed(proxy: Proxied) -> None:
    links = [proxy.connect() for _ in range(60)]
    for one in links:
        asked(one)
    key = proxy.rule(share_percent=50, seed=3, latency_us=1_000)
    state = relay.ask(proxy.where)
    assert state is not None
    assert 15 <= state.rule(key).links <= 45
    for one in links:
        one.close()


def test_somebody_else_may_not_tell_the_proxy_anything(proxy: Proxied) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can ask as another user")
    program = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "one = socket.socket(socket.AF_UNIX); one.connect('\\0' + sys.argv[1]); one.settimeout(5)\n"
        "try: one.sendall(b'{}\\n'); print(one.recv(100))\n"
        "except OSError: print(b'')\n"
    )
    argv = [sys.executable, "-S", "-c", program, proxy.where]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert said.stdout.strip() == "b''"
    assert relay.ask(proxy.where) is not None


def test_a_proxy_that_is_not_there_is_told_from_one_that_stands_still(proxy: Proxied) -> None:
    assert relay.ask("croupier-nobody") is None
    proxy.process.send_signal(19)
    try:
        with pytest.raises(TimeoutError):
            relay.ask(proxy.where)
    finally:
        proxy.process.send_signal(18)
    assert relay.ask(proxy.where) is not None


def test_a_stream_is_whole_though_a_rule_comes_and_goes_in_the_middle_of_it(proxy: Proxied) -> None:
    data = random.Random(2).randbytes(24 << 20)
    with proxy.connect() as one:
        sender = threading.Thread(target=lambda: (one.sendall(data), one.shutdown(socket.SHUT_WR)))
        sender.start()
        back = whole(one, 8 << 20)
        key = proxy.rule(latency_us=20_000, slice_bytes=50_000)
        back += whole(one, 4 << 20)
        proxy.lift(key)
        # Nobody takes for a while, so that what is on its way has to wait.
        time.sleep(0.2)
        back += whole(one, len(data) - len(back) + 1)
        sender.join()
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_a_control_socket_that_closes_without_an_answer_is_not_taken_for_gone() -> None:
    where = f"croupier-test-{os.getpid()}-{a_free_port()}"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"\0{where}")
        door.listen()

        def close_all() -> None:
            for _ in range(3):
                door.accept()[0].close()

        closer = threading.Thread(target=close_all, daemon=True)
        closer.start()
        with pytest.raises(TimeoutError):
            relay.ask(where)
        closer.join(5)
    assert relay.ask(where) is None
