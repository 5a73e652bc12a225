"""A Docker of the test's own: a daemon in namespaces and on a socket of its own, with an image made of busybox.

Nothing of the machine is changed but for a cgroup of ours, and that is taken away again: its mounts, what it writes
below /run and /etc, and the forwarding of packets that it switches on, are in namespaces that end with it.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgroup_of_ours import take_away
from hands import eventually, identity

from croupier.model.target import Identity
from croupier.system import docker, procs

IMAGE = "croupier-busybox"
APPLETS = ("sh", "sleep", "cat", "true", "false", "touch", "kill", "id")
START = """
set -e
mount -t tmpfs tmpfs /run
[ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker
exec dockerd "$@"
"""


class Docker:
    """The daemon, by its socket."""

    def __init__(self, socket: str, parent: str) -> None:
        self.socket = socket
        self.parent = parent
        self.env = {"DOCKER_HOST": f"unix://{socket}"}

    def ask(self, method: str, what: str, body: Any = None) -> Any:
        return docker.ask(self.socket, method, what, body, within_s=30)

    def inspect(self, name: str) -> dict[str, Any]:
        seen = docker.inspect(self.socket, name)
        assert seen is not None
        return seen

    def state(self, name: str) -> str:
        return str(self.inspect(name)["State"]["Status"])

    def main(self, name: str) -> Identity:
        """The first process of a running container, as the machine knows it."""
        return identity(self.inspect(name)["State"]["Pid"])

    @contextmanager
    def container(self, name: str, *command: str, user: str = "", **host: Any) -> Iterator[str]:
        """A running container, removed at the end; its name."""
        body = {
            "Image": IMAGE,
            "Cmd": list(command) or ["sh", "-c", "sleep 300 & exec sleep 300"],
            "User": user,
            "HostConfig": {"NetworkMode": "none", **host},
        }
        made = self.ask("POST", f"/containers/create?name={name}", body)["Id"]
        try:
            self.ask("POST", f"/containers/{made}/start")
            yield name
        finally:
            if docker.inspect(self.socket, made):
                self.ask("DELETE", f"/containers/{made}?force=true")


@contextmanager
def a_docker(folder: Path) -> Iterator[Docker]:
    """Start a daemon, and end it with all that it left. `folder` is short enough for the path of a socket."""
    parent = f"/croupier-test-{os.getpid()}"
    (folder / "daemon.json").write_text("{}")
    argv = [
        "unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", START, "dockerd",
        "--host", f"unix://{folder}/s", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
        "--pidfile", f"{folder}/pid", "--config-file", f"{folder}/daemon.json", "--bridge=none", "--iptables=false",
        "--ip6tables=false", "--ip-forward=false", "--storage-driver", "vfs", "--exec-opt",
        "native.cgroupdriver=cgroupfs", "--cgroup-parent", parent, "--shutdown-timeout", "1", "--log-level", "error",
    ]  # fmt: skip
    log = (folder / "log").open("wb")
    daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    found = Docker(f"{folder}/s", parent)
    try:
        if not eventually(lambda: daemon.poll() is not None or _answers(found.socket), 60) or daemon.poll() is not None:
            raise RuntimeError(f"dockerd did not start: {(folder / 'log').read_text()[-2_000:]}")
        _import(found)
        yield found
    finally:
        below = procs.family(daemon.pid)
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        for one in below:
            if procs.alive(one):
                os.kill(one.pid, signal.SIGKILL)
        log.close()
        take_away(parent)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(path: str) -> bool:
    try:
        docker.ask(path, "GET", "/_ping", within_s=5)
    except docker.DockerError:
        return False
    return True


def _import(to: Docker) -> None:
    """An image of one file system: busybox, and names for it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode in {"bin": 0o755, "tmp": 0o1777}.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        tar.add(str(shutil.which("busybox")), "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    line = http.client.HTTPConnection("docker", timeout=30)
    line.sock = socket.socket(socket.AF_UNIX)
    line.sock.connect(to.socket)
    plain = {"Content-Type": "application/x-tar"}
    line.request("POST", f"/images/create?fromSrc=-&repo={IMAGE}", data.getvalue(), plain)
    answer = line.getresponse()
    assert answer.status == 200, answer.read()
    said = [json.loads(row) for row in answer.read().splitlines()]
    assert not any("error" in row for row in said), said
    line.close()
