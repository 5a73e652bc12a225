"""The rule about packages: a test says what it needs; with CI=true nothing is skipped for want of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
NEEDS_WHAT_IS_NOT_THERE = """
import pytest
@pytest.mark.needs("no-such-package")
def test_needs(): pass
def test_without(): pass
def test_module(): pytest.importorskip("no_such_module")
def test_other(): pytest.skip("this kernel is too old")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    tests = pytester.mkdir("tests")
    tools = pytester.mkdir("tools")
    (tests / "conftest.py").write_text(CONFTEST.read_text())
    (tools / "debian-packages.txt").write_text("# comment\nno-such-package no-such-program reason\n")
    (tests / "test_it.py").write_text(NEEDS_WHAT_IS_NOT_THERE)
    return pytester


def test_a_missing_package_skips_only_its_tests(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = suite.runpytest_subprocess("-rs", "tests")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["*apt-get install no-such-package*"])


def test_in_ci_a_missing_package_fails_its_tests(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest_subprocess("tests")
    result.assert_outcomes(passed=1, failed=1, errors=1, skipped=1)


def test_a_package_that_is_not_on_the_list_is_a_mistake(suite: pytest.Pytester) -> None:
    (suite.path / "tests" / "test_it.py").write_text(
        "import pytest\n@pytest.mark.needs('unlisted')\ndef test_it(): pass\n"
    )
    result = suite.runpytest_subprocess("tests")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*list it in tools/debian-packages.txt*"])
