"""The scripts that set a machine up: what is missing is installed by root, and named to everybody else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


class Machine:
    """A copy of the tools, on a PATH with an `apt-get` that only writes down what it was asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.asked = home / "asked"
        self.policy = home / "policy-rc.d"
        (home / "tools").mkdir()
        (home / "bin").mkdir()
        shutil.copy2(REPOSITORY / "tools" / "install-debian-packages.sh", home / "tools")
        self.program(
            "apt-get", f'echo "$@" >>{self.asked}; test -x {self.policy} && {self.policy} >>{self.asked}; true'
        )

    def program(self, name: str, script: str) -> None:
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def install(self, listed: str, *, user: int, ci: str = "") -> subprocess.CompletedProcess[str]:
        (self.home / "tools" / "debian-packages.txt").write_text(f"# a comment\n\n{listed}\n")
        self.program("id", f"echo {user}")
        return subprocess.run(
            ["/bin/sh", self.home / "tools" / "install-debian-packages.sh"],
            env={"PATH": f"{self.home}/bin:/usr/bin:/bin", "POLICY_RC_D": str(self.policy), "CI": ci},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_nothing_is_missing_nothing_is_fetched(machine: Machine) -> None:
    done = machine.install("dash sh the shell\npython3-venv - no program", user=0)
    assert (done.returncode, done.stdout) == (0, "")
    assert not machine.asked.exists()


def test_root_installs_what_is_missing_and_no_service_is_started_by_it(machine: Machine) -> None:
    done = machine.install("dash sh the shell\nroulette no-such-roulette a wheel\ncards no-such-cards a deck", user=0)
    assert done.returncode == 0, done.stderr
    update, install = machine.asked.read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("roulette cards")
    assert not machine.policy.exists()


def test_a_policy_about_services_that_was_there_stays(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 0\n")
    machine.install("roulette no-such-roulette a wheel", user=0)
    assert machine.policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_everybody_else_is_told_the_names(machine: Machine) -> None:
    done = machine.install("roulette no-such-roulette a wheel", user=1000)
    assert done.returncode == 0
    assert "sudo apt-get install roulette" in done.stdout
    assert not machine.asked.exists()


def test_in_ci_nobody_is_let_off(machine: Machine) -> None:
    assert machine.install("roulette no-such-roulette a wheel", user=1000, ci="true").returncode == 1


def test_the_environment_is_made_from_the_python_that_a_shim_stands_for(tmp_path: Path) -> None:
    base = getattr(sys, "_base_executable", "") or sys.executable
    shim = tmp_path / "shim"
    shim.write_text(f'#!/bin/sh\nexec {base} "$@"\n')
    shim.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", REPOSITORY / "tools" / "make-venv.sh", tmp_path / "venv"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"from {base}" in done.stdout
    assert (tmp_path / "venv" / "bin" / "python").resolve() == Path(base).resolve()
