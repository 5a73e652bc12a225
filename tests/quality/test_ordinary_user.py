"""Whole searches as an ordinary user; and PostgreSQL, which will be searched by no other."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from croupier.trace import machine

from .ordinary import NOBODY, Ordinary

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or machine() is None, reason="calls are traced on 64-bit Linux only"
)


@pytest.fixture
def ordinary():
    # Not below pytest's own folder, which only we may enter.
    folder = Path(tempfile.mkdtemp(prefix="croupier-ordinary-"))
    try:
        one = Ordinary(folder)
        if lack := one.lacks():
            pytest.skip(lack)
        yield one
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("store", "verdict"),
    [("json-naive", "violated"), pytest.param("sqlite-wal", "held", marks=pytest.mark.searches)],
)
def test_an_ordinary_user_finds_the_same(ordinary, store, verdict):
    ordinary.readable(PROGRAMS / "keyvalue.py")
    done = ordinary.croupier(
        "explore", "--json", "--check", f"{ordinary.python} keyvalue.py check {store}", "--",
        ordinary.python, "keyvalue.py", "run", store,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (result["verdict"], result["acked"]) == (verdict, 14), done.stderr
    assert result["level"].startswith("seccomp")
    assert all(one["confirmed"] for one in result["groups"])
    again = [ordinary.croupier("replay", f"{result['run']}/{one['first']}").returncode for one in result["groups"]]
    assert set(again) <= {1}


@pytest.mark.searches
@pytest.mark.needs("postgresql")
@pytest.mark.timeout(600)
def test_postgresql_loses_nothing_that_it_acknowledged(ordinary):
    ordinary.readable(PROGRAMS / "postgres.py")
    socket = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if ordinary.is_root:
        os.chown(socket, NOBODY, NOBODY)
    run = f"{ordinary.python} postgres.py"
    try:
        done = ordinary.croupier(
            "explore", "--json", "--setup", f"{run} setup {socket}", "--until", f"{run} use {socket}",
            "--check", f"{run} check", "--budget", "60", "--check-timeout", "60s", "--timeout", "5m",
            "--", ordinary.python, "postgres.py", "serve", within_s=580,
        )  # fmt: skip
    finally:
        shutil.rmtree(socket)
    result = json.loads(done.stdout)
    assert (result["verdict"], result["findings"]) == ("held", []), (result["reasons"], done.stderr)
    assert (result["acked"], result["checked"]) == (4, 60)
    assert result["operations"] > 100
