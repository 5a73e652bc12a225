"""What all tests share: where the repository is, and the rule about packages.

A test that needs a program of the machine says so, and is skipped where it is missing, with the package to install:

    @pytest.mark.needs("redis-server")
    def test_a_killed_redis_loses_nothing(): ...

`tools/debian-packages.txt` lists what may be named. Where `CI` is true, nothing is skipped for want of a package, of
Debian or of Python: the test fails instead.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def debian_packages() -> dict[str, str]:
    """The packages that tests may need, each with a program by which one sees that it is there."""
    rows = (REPOSITORY / "tools" / "debian-packages.txt").read_text().splitlines()
    words = [row.split() for row in rows if row.strip() and not row.startswith("#")]
    return {package: program for package, program, *_ in words if program != "-"}


PACKAGES = debian_packages()
_WANT_OF_A_PACKAGE = re.compile(
    r"not installed|not found|could not import|no module named|\bapt(-get)?\b|"
    + "|".join(rf"\b{re.escape(word)}\b" for word in {*PACKAGES, *PACKAGES.values()} - {"make", "ps"}),
    re.IGNORECASE,
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(package, ...): Debian packages of tools/debian-packages.txt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The long ones first: at the end there is nobody left to share them with.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        for package in _needed(item):
            if package not in PACKAGES:
                raise pytest.UsageError(f"{item.nodeid} needs {package}: list it in tools/debian-packages.txt")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if missing := missing_packages(item):
        pytest.skip(f"not installed: {' '.join(missing)} (apt-get install {' '.join(missing)})")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        _no_skip_for_want_of_a_package(report)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if IN_CI and report.skipped:  # A whole module, by importorskip.
        _no_skip_for_want_of_a_package(report)


def _is_there(program: str) -> bool:
    return any(Path("/").glob(program[1:])) if program.startswith("/") else shutil.which(program) is not None


def missing_packages(item: pytest.Item) -> list[str]:
    """What a test needs and this machine lacks."""
    return [package for package in _needed(item) if not _is_there(PACKAGES[package])]


def _needed(item: pytest.Item) -> list[str]:
    return [str(package) for mark in item.iter_markers("needs") for package in mark.args]


def _no_skip_for_want_of_a_package(report: Any) -> None:
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if _WANT_OF_A_PACKAGE.search(reason):
        report.outcome = "failed"
        report.longrepr = f"CI=true, and this would have been skipped: {reason.removeprefix('Skipped: ')}"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def lacks() -> Callable[[pytest.Item], bool]:
    """Whether a test will be skipped since this machine lacks what it needs."""
    return lambda item: bool(missing_packages(item))


@pytest.fixture
def program_path() -> str:
    """A PATH with the programs of this environment first, so that `croupier` and `python` mean ours."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@pytest.fixture(autouse=True, scope="session")
def own_register_of_rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Rounds of these tests are registered in a place of their own: `halt` and `recover` here never meet a real one."""
    before = os.environ.get("XDG_STATE_HOME")
    home = tmp_path_factory.mktemp("xdg-state")
    os.environ["XDG_STATE_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before
