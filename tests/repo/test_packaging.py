"""The wheel holds what an installed croupier needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import croupier

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    into = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", into, REPOSITORY]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = into.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    package = REPOSITORY / "src" / "croupier"
    files = {
        str(file.relative_to(package.parent))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == files
    assert "croupier/py.typed" in held
    assert [name for name in held if name.endswith(".j2")]


def test_the_wheel_brings_its_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    info = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "licenses/LICENSE" in info
    assert "croupier = croupier.cli:main" in wheel.read(info["entry_points.txt"]).decode()
    metadata = wheel.read(info["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "# Croupier" in metadata


def test_the_version_is_said_once() -> None:
    assert croupier.__version__ == PROJECT["version"]


def test_the_changelog_knows_the_version() -> None:
    assert f"## {PROJECT['version']}" in (REPOSITORY / "CHANGELOG.md").read_text()
