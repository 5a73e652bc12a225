"""Each probe, asked about real things: servers that drip and lie, damaged databases, processes started here."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from croupier.model.errors import ExperimentError
from croupier.model.probe import Acks, Command, File, Heartbeat, Http, Log, Probe, Process, Reading, Sqlite, Tcp
from croupier.model.target import Census, Identity
from croupier.model.units import Bytes, Ms
from croupier.observe import READERS, HeartbeatSocket, addressed
from croupier.observe.view import KEEP_BYTES
from croupier.system import procs
from croupier.system.commands import Finished, run_command


class RealView:
    """A view of this machine, without a round."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.env: Mapping[str, str] = dict(os.environ)
        self.baseline: dict[str, int] = {}
        self.lines: dict[str, list[str]] = {}
        self.roots: dict[str, Identity] = {}
        self.sockets: dict[Path, HeartbeatSocket] = {}

    def log_matches(self, process: str, regex: str) -> int:
        import re

        return sum(re.search(regex, line) is not None for line in self.lines[process])

    def log_lines(self, process: str) -> list[str]:
        return self.lines[process]

    def census(self) -> Census:
        return procs.read_census(self.roots)

    def acks(self) -> Path:
        return self.cwd / "acks.txt"

    def heartbeat_path(self, process: str) -> Path:
        return self.cwd / f"heartbeat-{process}"

    def heartbeat_seen_ms(self, path: Path) -> float | None:
        return self.sockets[path].seen_ms()

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        return run_command(argv, env=env, cwd=str(self.cwd), within_ms=within_ms, keep_bytes=keep_bytes)


@pytest.fixture
def view(tmp_path: Path) -> RealView:
    return RealView(tmp_path)


def ask(probe: Probe, view: RealView) -> Reading:
    reading = READERS[probe.kind](probe, view)
    assert reading.detail and "\n" not in reading.detail
    assert reading.took_ms >= 0
    return reading


# A server with manners that can be chosen.

Manner = Callable[[socket.socket, threading.Event], None]


@contextmanager
def server(manner: Manner, *, backlog: int = 8) -> Iterator[int]:
    """Serve each connection on a thread, by the manner, after its request came."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                request = b""
                while b"\r\n\r\n" not in request and (part := connection.recv(65_536)):
                    request += part
                manner(connection, over)
            except OSError:
                pass  # The probe hung up.

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def says(answer: bytes) -> Manner:
    return lambda connection, over: connection.sendall(answer)


def ok(body: bytes = b"fine", status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def get(port: int, path: str = "/", **options: Any) -> Http:
    return Http(url=f"http://127.0.0.1:{port}{path}", within_ms=Ms(options.pop("within_ms", 2_000)), **options)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# http


def test_a_good_answer_holds(view: RealView) -> None:
    with server(says(ok(b"all is well"))) as port:
        reading = ask(get(port, contains="is well"), view)
    assert (reading.held, reading.detail) == (True, "answered 200")


def test_a_wrong_status_is_told_with_what_the_server_said(view: RealView) -> None:
    with server(says(ok(b"database is locked", "503 Service Unavailable"))) as port:
        reading = ask(get(port), view)
    assert (reading.held, reading.detail) == (False, "answered 503 instead of 200: database is locked")


def test_one_of_several_statuses_is_enough(view: RealView) -> None:
    with server(says(ok(status="404 Not Found"))) as port:
        assert ask(get(port, status=(200, 404)), view).held


def test_a_body_without_the_text_does_not_hold(view: RealView) -> None:
    with server(says(ok(b"something else"))) as port:
        reading = ask(get(port, contains="healthy"), view)
    assert reading.held is False
    assert "'healthy' is not in the body: something else" in reading.detail


def test_a_redirect_is_an_answer_and_is_not_followed(view: RealView) -> None:
    asked = []

    def redirect(connection: socket.socket, over: threading.Event) -> None:
        asked.append(1)
        connection.sendall(ok(b"", "302 Found", "Location: /elsewhere\r\n"))

    with server(redirect) as port:
        reading = ask(get(port), view)
        assert ask(get(port, status=302), view).held
    assert len(asked) == 2
    assert reading.held is False
    assert reading.detail == "answered 302 (a redirect to /elsewhere, which is not followed) instead of 200"


def drip(connection: socket.socket, over: threading.Event) -> None:
    for byte in ok(b"x" * 500):
        if over.wait(0.05):
            return
        connection.sendall(bytes([byte]))


def drip_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    for _ in range(500):
        if over.wait(0.05):
            return
        connection.sendall(b"x")


def hang(connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def endless_interim(connection: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.01):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("manner", [drip, drip_body, hang, endless_interim])
def test_a_server_that_drips_or_hangs_gets_no_more_time_than_asked(manner: Manner, view: RealView) -> None:
    with server(manner) as port:
        reading = ask(get(port, within_ms=300), view)
    assert reading.held is False
    assert "within 300ms" in reading.detail
    assert 250 <= reading.took_ms < 600


def test_a_half_answered_request_says_how_far_it_came(view: RealView) -> None:
    with server(drip_body) as port:
        reading = ask(get(port, within_ms=300), view)
    assert reading.detail.startswith("it began to answer with 200, but was not done within 300ms (")


LIES = {
    "closes": (b"", "without an answer"),
    "no http": (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP answer"),
    "cut body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "broke off after 5 bytes"),
    "cut chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nshort", "broke off after"),
    "no chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off after"),
    "cut head": (b"HTTP/1.1 200 OK\r\nContent-Le", ""),
    "long line": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "no HTTP answer"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", "no HTTP answer"),
    "odd status": (b"HTTP/1.1 banana OK\r\n\r\n", "no HTTP answer"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_a_finding(lie: str, view: RealView) -> None:
    answer, said = LIES[lie]
    with server(says(answer)) as port:
        reading = ask(get(port, contains="something"), view)
    assert reading.held is False
    assert said in reading.detail


def test_a_chunked_answer_is_put_together(view: RealView) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nheal\r\n3\r\nthy\r\n0\r\n\r\n"
    with server(says(chunked)) as port:
        assert ask(get(port, contains="healthy"), view).held


def test_no_more_than_a_mebibyte_of_a_body_is_read(view: RealView) -> None:
    sent = []

    def pour(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64 * 1024):
            if over.is_set():
                return
            sent.append(connection.send(b"x" * 65_536))

    with server(pour) as port:
        assert ask(get(port, within_ms=5_000), view).held
        reading = ask(get(port, contains="needle", within_ms=5_000), view)
    assert reading.held is False
    assert "in the first 1 MiB" in reading.detail
    assert sum(sent) < 64 << 20


def test_the_request_is_sent_as_the_experiment_says(view: RealView) -> None:
    seen = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(b'{"a": 1}'):
                    request += connection.recv(65_536)
                seen.append(request.decode())
                connection.sendall(ok())
            over.set()

        threading.Thread(target=serve, daemon=True).start()
        probe = Http(
            url=f"http://anna:s3cret%21@127.0.0.1:{port}/a b?c=ä",
            method="PUT",
            body='{"a": 1}',
            headers={"X-Test": "yes"},
        )
        assert ask(probe, view).held
        assert over.wait(5)
    (request,) = seen
    assert request.startswith("PUT /a%20b?c=%C3%A4 HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n" in request
    assert "X-Test: yes\r\n" in request
    assert "Authorization: Basic YW5uYTpzM2NyZXQh\r\n" in request


def test_no_proxy_is_asked(view: RealView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with server(says(ok())) as port:
        assert ask(get(port), view).held


def test_nobody_listening_is_told_as_such(view: RealView) -> None:
    port = free_port()
    for probe in (get(port), Tcp(port=port)):
        reading = ask(probe, view)
        assert (reading.held, reading.detail) == (False, f"nobody listens on 127.0.0.1:{port}: connection refused")


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "127.0.0.1:80", "http://", "http://127.0.0.1:99999/", "http://[::1"]
)
def test_an_address_that_cannot_be_asked_is_no_finding(url: str, view: RealView) -> None:
    assert ask(Http(url=url), view).held is None


def test_a_header_that_cannot_be_sent_is_no_finding(view: RealView) -> None:
    with server(says(ok())) as port:
        assert ask(get(port, headers={"X": "a\r\nEvil: yes"}), view).held is None


def test_credentials_of_an_address_are_never_told(view: RealView) -> None:
    reading = ask(Http(url="gopher://anna:s3cret@127.0.0.1/"), view)
    assert "s3cret" not in reading.detail
    assert "‹redacted›" in reading.detail


@pytest.mark.parametrize("manner", [hang, says(b"plain text, no handshake")])
def test_a_server_without_encryption_is_a_finding_in_time(manner: Manner, view: RealView) -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                manner(connection, over)

        threading.Thread(target=serve, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        reading = ask(Http(url=url, within_ms=Ms(1_000)), view)
        over.set()
    assert reading.held is False
    assert reading.took_ms < 1_500


def test_a_name_that_nobody_looks_up_in_time_is_a_finding(view: RealView, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hanging(*_: Any, **__: Any) -> list[Any]:
        over.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    reading = ask(Http(url="http://name.invalid/", within_ms=Ms(200)), view)
    over.set()
    assert reading.held is False
    assert "could not be looked up: no answer in time" in reading.detail
    assert reading.took_ms < 500


# tcp


def test_a_connection_that_is_taken_holds(view: RealView) -> None:
    with server(hang) as port:
        assert ask(Tcp(port=port), view).held
        assert ask(Tcp(port=str(port), host="localhost"), view).held


def test_a_port_that_swallows_connections_gets_no_more_time_than_asked(view: RealView) -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        reading = ask(Tcp(port=port, within_ms=Ms(300)), view)
    assert reading.held is False
    assert "in time" in reading.detail
    assert reading.took_ms < 600


@pytest.mark.parametrize("port", ["web", "0", "70000"])
def test_a_port_that_is_no_number_is_no_finding(port: str, view: RealView) -> None:
    assert ask(Tcp(port=port), view).held is None


def test_a_socket_that_met_itself_is_nobody_listening(view: RealView, monkeypatch: pytest.MonkeyPatch) -> None:
    from croupier.observe import wire

    port = free_port()
    plain = socket.socket

    class Bound(plain):
        def connect(self, address: Any) -> None:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(("127.0.0.1", port))
            super().connect(address)

    monkeypatch.setattr(wire.socket, "socket", Bound)
    reading = ask(Tcp(port=port), view)
    monkeypatch.undo()
    assert reading.held is False
    # And the program can have its port at once.
    with plain() as program:
        program.bind(("127.0.0.1", port))


# command


def python(code: str, **options: Any) -> Command:
    return Command(run=(sys.executable, "-c", code), **options)


def test_a_command_holds_by_its_exit_code(view: RealView) -> None:
    assert ask(python("print('fine')"), view).detail == "fine"
    assert ask(python("raise SystemExit(3)", exit=3), view).held


def test_the_last_line_of_a_command_is_the_reason(view: RealView) -> None:
    reading = ask(python("print('two notes are lost'); print(); raise SystemExit(1)"), view)
    assert (reading.held, reading.detail) == (False, "two notes are lost (exit code 1)")


def test_a_command_that_hangs_is_ended_with_its_children(view: RealView, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid)); print('waiting', flush=True); child.wait()"
    )
    reading = ask(python(code, within_ms=Ms(700)), view)
    assert reading.held is False
    assert reading.detail == "it did not end within 700ms, and was ended; its last line: waiting"
    who = procs.identity(int((tmp_path / "child").read_text()))
    assert who is None or not procs.alive(who)


def test_a_command_that_cannot_be_asked_is_no_finding(view: RealView) -> None:
    reading = ask(Command(run=("no-such-command",)), view)
    assert reading.held is None
    assert "no-such-command" in reading.detail
    assert ask(python("import os; os.kill(os.getpid(), 9)"), view).held is None


def test_a_command_gets_the_environment_and_its_own(view: RealView) -> None:
    view.env = {**view.env, "FIRST": "1", "SECOND": "2"}
    probe = python("import os; print(os.environ['FIRST'], os.environ['SECOND'])", env={"SECOND": "two"})
    assert ask(probe, view).detail == "1 two"


# log


def test_log_lines_are_looked_for_and_missed(view: RealView) -> None:
    view.lines["web"] = ["starting", "ready on 1", "error: token", "ready on 2"]
    assert ask(Log(process="web", match="^ready"), view).values == {"matches": 2}
    assert ask(Log(process="web", match="panic"), view).held is False
    assert ask(Log(process="web", match="panic", absent=True), view).held
    reading = ask(Log(process="web", match="error", absent=True), view)
    assert reading.held is False
    assert reading.detail == "web printed 1 line that matches /error/, the last: error: token"


def test_a_log_that_nobody_has_is_no_finding(view: RealView) -> None:
    assert ask(Log(process="db", match="x"), view).held is None
    view.lines["db"] = []
    assert ask(Log(process="db", match="("), view).held is None


# file


def test_a_file_is_asked_for_all_that_it_can_be(view: RealView, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first line\nsecond: 17\n")
    for probe in (
        File(path="a.txt"),
        File(path=str(tmp_path / "a.txt"), contains="line\nsec"),
        File(path="a.txt", matches=r"^second: \d+$"),
        File(path="a.txt", at_least=Bytes(22), at_most=Bytes(22)),
        File(path="a.txt", fresh_ms=Ms(60_000)),
        File(path="b.txt", exists=False),
        File(path="a.txt/b.txt", exists=False),
    ):
        assert ask(probe, view).held, probe


def test_a_file_that_is_not_as_it_should_be_is_a_finding(view: RealView, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first line\n")
    os.utime(tmp_path / "a.txt", (time.time() - 90, time.time() - 90))
    for probe, said in (
        (File(path="b.txt"), "it does not exist"),
        (File(path="a.txt", exists=False), "it exists, with 11B"),
        (File(path="a.txt", contains="needle"), "'needle' is not in it"),
        (File(path="a.txt", matches="^line"), "no line of it matches /^line/"),
        (File(path="a.txt", at_least=Bytes(2**20)), "it has 11B, which is less than 1MiB"),
        (File(path="a.txt", at_most=Bytes(3)), "it has 11B, which is more than 3B"),
    ):
        reading = ask(probe, view)
        assert (reading.held, reading.detail) == (False, said)
    old = ask(File(path="a.txt", fresh_ms=Ms(5_000)), view)
    assert old.held is False
    assert old.detail.startswith("it was last written 9")
    assert old.detail.endswith("s ago, which is more than 5s")


def test_growth_counts_from_the_baseline(view: RealView, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 100)
    probe = File(path="a.txt", grows_by=Bytes(50))
    assert ask(probe, view).held is None
    view.baseline["a.txt"] = 20
    assert ask(probe, view).held
    view.baseline["a.txt"] = 80
    assert "grew by 20B since the round began" in ask(probe, view).detail
    view.baseline["a.txt"] = 130
    assert "shrank by 30B" in ask(probe, view).detail


def test_a_text_is_found_across_the_parts_in_which_a_file_is_read(view: RealView, tmp_path: Path) -> None:
    part = 1 << 20
    (tmp_path / "big").write_bytes(b"x" * (part - 3) + b"needle" + b"\n" * part + b"last: 1")
    patient = Ms(20_000)
    assert ask(File(path="big", contains="needle", within_ms=patient), view).held
    assert ask(File(path="big", matches="^last: 1$", within_ms=patient), view).held
    assert ask(File(path="big", contains="needles", within_ms=patient), view).held is False


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(view: RealView, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert ask(File(path="pipe", contains="x", within_ms=Ms(500)), view).held is None
    assert ask(File(path="pipe"), view).held


def test_a_file_system_that_hangs_is_left_behind_and_not_asked_again(
    view: RealView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, asked = threading.Event(), []

    def hang_in_stat(path: Path, **options: Any) -> os.stat_result:
        asked.append(path)
        over.wait(10)
        return os.fstat(0)

    monkeypatch.setattr(Path, "stat", hang_in_stat)
    first = ask(File(path="slow", within_ms=Ms(100)), view)
    second = ask(File(path="slow", within_ms=Ms(5_000)), view)
    over.set()
    assert first.held is second.held is None
    assert "hangs still" in second.detail
    assert second.took_ms < 2_000
    assert len(asked) == 1


def as_nobody(folder: Path, *probes: Probe) -> list[str]:
    """What the probes answer to somebody who is not root, as `held detail`."""
    for above in (folder, *folder.parents):
        if above.stat().st_uid == os.geteuid() and "pytest-of-" in str(above):
            above.chmod(above.stat().st_mode | 0o055)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65_534)
            answers = [READERS[probe.kind](probe, RealView(folder)) for probe in probes]
            os.write(write, "\n".join(f"{one.held} {one.detail}" for one in answers).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(pid, 0)
    return lines


def test_a_file_that_may_not_be_read_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("secret")
    (tmp_path / "a.txt").chmod(0)
    assert as_nobody(tmp_path, File(path="a.txt", contains="x")) == ["None it cannot be read: Permission denied"]


# process

FAMILY = (
    "import os, sys, time\n"
    "for _ in range(2):\n"
    "    if os.fork() == 0:\n"
    "        time.sleep(60)\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)"
)


@pytest.fixture
def family(view: RealView) -> Iterator[list[int]]:
    """A process with two children, known as `web`; its pids, the main one first."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as main:
        assert main.stdout is not None and main.stdout.readline() == b"ready\n"
        who = procs.identity(main.pid)
        assert who is not None
        view.roots["web"] = who
        pids = procs.tree(main.pid)
        try:
            yield pids
        finally:
            for pid in reversed(pids):
                if procs.identity(pid):
                    os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], within_s: float = 5) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_processes_are_counted_by_role_and_place(view: RealView, family: list[int]) -> None:
    assert len(family) == 3
    for probe in (
        Process(of="web"),
        Process(of="web", count=3),
        Process(of="web", pick="children", count=2),
        Process(of="web", pick="main", at_least=1, at_most=1),
        Process(of="db", count=0),
    ):
        assert ask(probe, view).held, probe
    few = ask(Process(of="web", pick="children", at_least=3), view)
    assert (few.held, few.detail) == (False, "2 children of web alive, and at least 3 should be there")
    assert ask(Process(of="db"), view).held is False


def test_processes_are_counted_by_state(view: RealView, family: list[int]) -> None:
    stopped = Process(of="web", state="T", count=0)
    assert ask(stopped, view).held
    os.kill(family[1], signal.SIGSTOP)
    until(lambda: ask(stopped, view).held is False)
    assert "1 process of web in state T (stopped)" in ask(stopped, view).detail
    assert "(1 of them stopped)" in ask(Process(of="web", at_most=1), view).detail


def test_a_zombie_is_not_alive(view: RealView, family: list[int]) -> None:
    os.kill(family[1], signal.SIGKILL)
    until(lambda: bool(ask(Process(of="web", pick="children", count=1), view).held))


def test_memory_is_asked_of_all_together(view: RealView, family: list[int]) -> None:
    assert ask(Process(of="web", rss_at_most=Bytes(2**30)), view).held
    reading = ask(Process(of="web", rss_at_most=Bytes(2**10)), view)
    assert reading.held is False
    assert "of memory, more than 1KiB" in reading.detail


# sqlite


def make_database(path: Path, *, rows: int = 200, mode: str = "delete") -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"pragma journal_mode = {mode}")
        database.execute("create table notes (id integer primary key, text)")
        database.execute("create index by_text on notes (text)")
        database.executemany("insert into notes (text) values (?)", [(f"note {nth} " * 20,) for nth in range(rows)])


def die_with(path: Path, code: str) -> None:
    """Run code on an open database, and die by SIGKILL."""
    program = (
        f"import os, sqlite3\nc = sqlite3.connect({str(path)!r}, isolation_level=None)\n{code}\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9


def test_a_sound_database_holds(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a b#?%.db")
    assert ask(Sqlite(path="a b#?%.db", integrity="ok"), view).detail == "integrity check is ok"
    assert ask(Sqlite(path="a b#?%.db"), view).held


@pytest.mark.parametrize(
    ("expect", "held"),
    [(200, True), (200.0, True), ("200", True), (None, True), (199, False), ("199", False), ("", False)],
)
def test_a_query_is_compared_with_what_was_expected(expect: Any, held: bool, view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    assert ask(Sqlite(path="a.db", query="select count(*) from notes", expect=expect), view).held is held


def test_what_a_query_gave_is_told(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    reading = ask(Sqlite(path="a.db", query="select count(*) from notes", expect=7), view)
    assert reading.detail == "the query gave 200 instead of 7"
    assert ask(Sqlite(path="a.db", query="select 1 where 0"), view).detail == "the query gave no row"
    assert "NULL" in ask(Sqlite(path="a.db", query="select null", expect="x"), view).detail
    assert ask(Sqlite(path="a.db", query="select x'ff00'", expect="x"), view).held is False
    assert ask(Sqlite(path="a.db", query="select cast(x'ff' as text)"), view).held


def test_a_missing_table_is_a_finding_and_a_wrong_query_is_none(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    missing = ask(Sqlite(path="a.db", query="select * from orders"), view)
    assert (missing.held, missing.detail) == (False, "the query failed: no such table: orders")
    assert ask(Sqlite(path="a.db", query="selct 1"), view).held is None


def test_a_query_cannot_change_anything(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    before = (tmp_path / "a.db").read_bytes()
    new = tmp_path / "new.db"
    for query in (
        "delete from notes returning 1",
        "drop table notes",
        f"attach '{new}' as new",
        f"vacuum into '{new}'",
    ):
        reading = ask(Sqlite(path="a.db", query=query), view)
        assert reading.held is None
        assert "refused" in reading.detail
    assert (tmp_path / "a.db").read_bytes() == before
    assert not new.exists()


def test_a_damaged_database_is_a_finding(view: RealView, tmp_path: Path) -> None:
    good = tmp_path / "good.db"
    make_database(good)
    data = bytearray(good.read_bytes())
    cases = {
        "page": bytes(data[:8192]) + b"\xa5" * 2048 + bytes(data[10240:]),
        "cut": bytes(data[: len(data) // 2]),
        "head": b"not a database, surely" * 100,
    }
    for name, content in cases.items():
        (tmp_path / f"{name}.db").write_bytes(content)
        reading = ask(Sqlite(path=f"{name}.db", integrity="ok"), view)
        assert reading.held is False, name
        assert "damaged" in reading.detail


def test_an_index_that_lost_its_rows_is_found(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute("pragma writable_schema = on")
        database.execute("update sqlite_schema set sql = 'create index by_text on notes (id)' where name = 'by_text'")
    reading = ask(Sqlite(path="a.db", integrity="ok"), view)
    assert reading.held is False


def test_a_missing_database_is_a_finding_and_an_empty_one_proves_nothing(view: RealView, tmp_path: Path) -> None:
    assert ask(Sqlite(path="a.db", integrity="ok"), view).detail == "there is no such database"
    assert not (tmp_path / "a.db").exists()
    (tmp_path / "a.db").touch()
    assert ask(Sqlite(path="a.db", integrity="ok"), view).held is None
    assert ask(Sqlite(path="a.db", integrity="ok", query="select 1 from notes"), view).held is False
    assert ask(Sqlite(path=".", integrity="ok"), view).held is None


def test_a_locked_database_is_no_finding(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        reading = ask(Sqlite(path="a.db", integrity="ok", within_ms=Ms(300)), view)
        assert reading.held is None
        assert "locked" in reading.detail
        assert 200 <= reading.took_ms < 900
        other.execute("rollback")
    assert ask(Sqlite(path="a.db", integrity="ok"), view).held


def test_a_lock_that_goes_in_time_is_waited_for(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("begin exclusive")
        timer = threading.Timer(0.2, lambda: other.execute("rollback"))
        timer.start()
        assert ask(Sqlite(path="a.db", integrity="ok", within_ms=Ms(5_000)), view).held
        timer.join()


def test_a_query_without_end_is_ended(view: RealView, tmp_path: Path) -> None:
    make_database(tmp_path / "a.db")
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n"
    reading = ask(Sqlite(path="a.db", query=endless, within_ms=Ms(300)), view)
    assert reading.held is None
    assert reading.took_ms < 800


def test_what_was_committed_to_a_write_ahead_log_is_seen_after_a_kill(view: RealView, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_database(path, rows=10, mode="wal")
    die_with(
        path,
        "c.execute('pragma wal_autocheckpoint=0')\nfor n in range(5): c.execute('insert into notes (text) values (1)')",
    )
    assert path.with_name("a.db-wal").stat().st_size > 0
    probe = Sqlite(path="a.db", integrity="ok", query="select count(*) from notes", expect=15)
    assert ask(probe, view).held
    path.with_name("a.db-shm").unlink()
    assert ask(probe, view).held


def test_a_transaction_that_waits_to_be_rolled_back_is_no_finding_yet(view: RealView, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_database(path)
    die_with(
        path, "c.execute('pragma cache_size=1')\nc.execute('begin')\nc.execute(\"update notes set text = text || 'x'\")"
    )
    journal = path.with_name("a.db-journal")
    assert journal.stat().st_size > 0
    reading = ask(Sqlite(path="a.db", integrity="ok"), view)
    assert reading.held is None
    assert "rolled back" in reading.detail
    assert journal.exists()
    with closing(sqlite3.connect(path)) as program:
        program.execute("select count(*) from notes").fetchone()
    assert ask(Sqlite(path="a.db", integrity="ok"), view).held


def test_a_write_ahead_log_in_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Read at rest; *unknown* where something waits in the log and nobody may take part in its locking."""
    folder = tmp_path / "kept"
    folder.mkdir()
    make_database(folder / "rest.db", mode="wal")
    make_database(folder / "busy.db", mode="wal")
    die_with(folder / "busy.db", "c.execute('pragma wal_autocheckpoint=0')\nc.execute('delete from notes')")
    (folder / "busy.db-shm").unlink()
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    rest, busy = as_nobody(folder, *(Sqlite(path=f"{name}.db", integrity="ok") for name in ("rest", "busy")))
    folder.chmod(0o755)
    assert rest == "True integrity check is ok"
    assert busy.startswith("None it cannot be read without writing beside it")


# heartbeat


def test_a_heartbeat_file_is_judged_by_its_age(view: RealView, tmp_path: Path) -> None:
    probe = addressed(Heartbeat(every_ms=Ms(10_000)), view, "web")
    assert ask(probe, view).detail == "no heartbeat yet: the file is not there"
    beat = tmp_path / "heartbeat-web"
    beat.touch()
    assert ask(probe, view).held
    os.utime(beat, (time.time() - 60, time.time() - 60))
    reading = ask(probe, view)
    assert reading.held is False
    assert "one is due every 10s" in reading.detail


def test_a_heartbeat_that_nobody_was_given_a_path_for_is_no_finding(view: RealView) -> None:
    assert ask(Heartbeat(every_ms=Ms(1_000)), view).held is None


def test_datagrams_are_heartbeats(view: RealView, tmp_path: Path) -> None:
    probe = Heartbeat(every_ms=Ms(60_000), path=str(tmp_path / "beat"), socket=True)
    with closing(HeartbeatSocket(tmp_path / "beat")) as listener:
        view.sockets[tmp_path / "beat"] = listener
        assert listener.fileno() >= 0
        assert ask(probe, view).detail == "no heartbeat came yet"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
            program.connect(str(tmp_path / "beat"))
            program.send(b"WATCHDOG=1")
            program.send(b"")
        assert listener.receive() == 2
        assert listener.receive() == 0
        assert ask(probe, view).held
        late = Heartbeat(every_ms=Ms(0), path=str(tmp_path / "beat"), socket=True)
        assert ask(late, view).held is False
    assert not (tmp_path / "beat").exists()


def test_a_heartbeat_socket_takes_the_place_of_a_dead_one_and_of_nothing_else(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "beat"))
    HeartbeatSocket(tmp_path / "beat").close()
    (tmp_path / "beat").write_text("a file of somebody")
    with pytest.raises(ExperimentError):
        HeartbeatSocket(tmp_path / "beat")
    assert (tmp_path / "beat").read_text() == "a file of somebody"


def test_a_path_that_is_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="at most"):
        HeartbeatSocket(tmp_path / ("x" * 120))
    listener = HeartbeatSocket.private("web")
    folder = listener.path.parent
    listener.close()
    assert not folder.exists()


# acks


def ledger(tmp_path: Path, *ids: str, cut: str = "") -> None:
    (tmp_path / "acks.txt").write_text("".join(f"ack {one}\n" for one in ids) + cut)


def found(*ids: str, at_least: int = 1) -> Acks:
    return Acks(found=(sys.executable, "-c", f"print({chr(10).join(ids)!r})"), at_least=at_least)


def test_every_acknowledged_id_found_once_holds(view: RealView, tmp_path: Path) -> None:
    ledger(tmp_path, "a", "b", "b", cut="ack c")
    reading = ask(found("b", "a", "extra", "extra"), view)
    again = "1 acknowledgement came for an id that had been acknowledged before"
    assert (reading.held, reading.detail) == (True, f"each of 2 acknowledged ids is found exactly once; {again}")


def test_lost_and_doubled_ids_are_told_with_examples(view: RealView, tmp_path: Path) -> None:
    ledger(tmp_path, *(f"note-{nth}" for nth in range(9)))
    reading = ask(found("note-8", "note-8"), view)
    assert reading.held is False
    assert reading.values == {"acks": 9, "missing": 8, "doubled": 1}
    assert reading.detail == (
        "8 of 9 acknowledged ids are missing (note-0, note-1, note-2, note-3, note-4, …);"
        " 1 of 9 acknowledged ids is there more than once (note-8)"
    )


def test_too_few_acknowledgements_prove_nothing_but_a_loss_is_a_loss(view: RealView, tmp_path: Path) -> None:
    ledger(tmp_path, "a", "b")
    assert ask(found("a", "b", at_least=3), view).held is None
    assert ask(found("a", at_least=3), view).held is False
    assert ask(Acks(at_least=3), view).held is None
    assert ask(Acks(at_least=2), view).held
    (tmp_path / "acks.txt").unlink()
    assert ask(Acks(), view).held is None


def test_a_list_that_could_not_be_had_is_no_finding(view: RealView, tmp_path: Path) -> None:
    ledger(tmp_path, "a")
    for argv in (("no-such-command",), (sys.executable, "-c", "print('a'); raise SystemExit(1)")):
        assert ask(Acks(found=argv), view).held is None
    slow = (sys.executable, "-c", "import time; print('a', flush=True); time.sleep(60)")
    assert ask(Acks(found=slow, within_ms=Ms(500)), view).held is None


def test_a_list_of_many_ids_is_compared_whole(view: RealView, tmp_path: Path) -> None:
    ledger(tmp_path, *(f"note-{nth:06}" for nth in range(20_000)))
    every = "for nth in range(20_000): print(f'note-{nth:06}')"
    assert ask(Acks(found=(sys.executable, "-c", every)), view).held


# all of them


def test_a_reader_that_fails_answers_that_it_cannot_tell(view: RealView, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("postgres://anna:s3cret@db is gone")

    monkeypatch.setattr(view, "census", broken)
    reading = ask(Process(of="web"), view)
    assert reading.held is None
    assert "RuntimeError" in reading.detail
    assert "s3cret" not in reading.detail


def test_a_long_answer_is_cut(view: RealView) -> None:
    reading = ask(python("print('x' * 10_000 + 'end'); raise SystemExit(1)"), view)
    assert len(reading.detail) <= 510
    assert reading.detail.endswith("end (exit code 1)")
