"""The grammar of the layout: imports go down, nouns touch nothing, and only doors know the terminal."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "croupier"
NOUNS = sorted((SOURCE / "model").glob("*.py"))
# What a pure function may lean on: values, types, text, numbers.
PURE = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "fnmatch", "fractions", "functools",
    "hashlib", "heapq", "itertools", "math", "msgspec", "operator", "re", "string", "textwrap", "types",
    "typing",
}  # fmt: skip
TOUCHING = {"open", "print", "input", "eval", "exec", "breakpoint"}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Top-level names that a file imports, with the line; relative imports as `.`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((one.name.split(".")[0], node.lineno) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level or (node.module or "").split(".")[0]), node.lineno


def test_every_import_goes_down() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=SOURCE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", NOUNS, ids=lambda one: one.stem)
def test_a_noun_imports_nothing_that_touches_the_world(file: Path) -> None:
    outside = {name for name, _ in imports(file) if name not in PURE and name != "."}
    assert not outside


@pytest.mark.parametrize("file", NOUNS, ids=lambda one: one.stem)
def test_a_noun_reads_no_file_and_prints_nothing(file: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & TOUCHING


@pytest.mark.parametrize("name", ["jinja2", "rich", "argparse"])
def test_what_only_a_door_or_the_page_needs_is_imported_nowhere_else(name: str) -> None:
    users = {file.relative_to(SOURCE).parts[0] for file in SOURCE.rglob("*.py") if name in dict(imports(file))}
    assert users <= {"cli", "report"}


def test_no_shell_is_ever_given_a_command_line() -> None:
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                pytest.fail(f"{file}:{node.value.lineno}: shell=")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in ("system", "popen"), f"{file}:{node.lineno}"


def test_help_imports_nothing_slow() -> None:
    code = "import sys; from croupier.cli.parser import _parser; _parser().format_help(); print(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())
    assert not loaded & {"rich", "jinja2", "ruamel.yaml", "psutil", "asyncio", "importlib.metadata", "subprocess"}
