"""The house in which rounds are played is that of the whole."""

from whole.conftest import house

__all__ = ["house"]
