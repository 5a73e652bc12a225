"""The house in which rounds are played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of its own for each test; whatever was started in it is ended afterwards."""
    opened = House(tmp_path)
    yield opened
    opened.close()
