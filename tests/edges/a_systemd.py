"""A systemd of the test's own: a manager as of `systemctl --user`, with units of the test's, in a cgroup of its own.

It is told to look at none but our units, makes no mount, and serves from a folder of the test's. With `unified` it is
shown cgroups v2 alone, as on newer machines, which it needs to freeze; what it is shown is in a namespace of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cgroup_of_ours import a_cgroup
from hands import eventually, identity

from croupier.model.target import Identity
from croupier.system import procs, systemd

PROGRAM = "/usr/lib/systemd/systemd"
START = """
set -e
for place in $PLACES; do echo $$ > $place/cgroup.procs; done
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
[ -z "$UNIFIED" ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$@"
"""
TARGET = "[Unit]\nDefaultDependencies=no\nRequires=dbus.service\nAfter=dbus.service\n"
SOCKET = "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n"
BUS = """[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile
"""
"""The bus of a user, by which alone some things can be asked of systemd."""
SERVICE = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={command}\nRestart={restart}\nRestartSec=100ms\n"


class Systemd(NamedTuple):
    """The manager, by the folder that it serves from."""

    folder: Path
    group: str
    env: dict[str, str]

    def show(self, unit: str, name: str) -> str:
        return systemd.show("user", unit, name, env=self.env)[name]

    def state(self, unit: str) -> str:
        return self.show(unit, "ActiveState")

    def main(self, unit: str) -> Identity:
        return identity(int(self.show(unit, "MainPID")))

    @contextmanager
    def service(self, name: str, command: str = "/bin/sleep 300", restart: str = "no") -> Iterator[str]:
        """A running service of this name, stopped at the end; the name of its unit."""
        unit = f"{name}.service"
        (self.folder / "units" / unit).write_text(SERVICE.format(command=command, restart=restart))
        systemd.tell("user", "daemon-reload", env=self.env)
        systemd.tell("user", "start", unit, env=self.env)
        try:
            yield unit
        finally:
            systemd.tell("user", "stop", unit, env=self.env)


@contextmanager
def a_systemd(folder: Path, *, unified: bool = False) -> Iterator[Systemd]:
    """Start one, and end it with everybody in it."""
    # As a user's manager is placed, so that whose unit it is can be told.
    top = f"/croupier-test-{os.getpid()}{'-v2' if unified else ''}"
    for name in ("units", "xdg", "none"):
        (folder / name).mkdir()
    for name, text in {"croupier.target": TARGET, "dbus.socket": SOCKET, "dbus.service": BUS}.items():
        (folder / "units" / name).write_text(text)
    env = {"XDG_RUNTIME_DIR": f"{folder}/xdg", "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder}/xdg/bus"}
    with a_cgroup(top), a_cgroup(f"{top}/user@0.service") as places, (folder / "log").open("wb") as log:
        told = {
            **env, "PATH": "/usr/bin:/bin", "HOME": str(folder), "PLACES": " ".join(map(str, places)),
            "UNIFIED": "yes" if unified else "", "SYSTEMD_UNIT_PATH": f"{folder}/units",
            "SYSTEMD_GENERATOR_PATH": f"{folder}/none", "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": f"{folder}/none",
            "SYSTEMD_LOG_TARGET": "console",
        }  # fmt: skip
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, "systemd", PROGRAM, "--user",
                "--unit=croupier.target"]  # fmt: skip
        manager = subprocess.Popen(argv, stdout=log, stderr=log, env=told, start_new_session=True)
        found = Systemd(folder, f"{top}/user@0.service", env)
        try:
            if not eventually(lambda: manager.poll() is not None or _answers(found), 30) or manager.poll():
                raise RuntimeError(f"systemd did not start: {(folder / 'log').read_text()[-2_000:]}")
            yield found
        finally:
            for one in procs.family(manager.pid):
                os.kill(one.pid, signal.SIGKILL)
            manager.kill()
            manager.wait()


def _answers(one: Systemd) -> bool:
    try:
        systemd.tell("user", "show", "-p", "Version", env=one.env)
        return systemd.tell("user", "is-active", "croupier.target", env=one.env).strip() == "active"
    except systemd.SystemdError:
        return False
