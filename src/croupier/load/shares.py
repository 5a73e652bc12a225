"""What may be wrong with a share of a processor that types cannot say."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.faults.cpu import StarveCpu
from ..system import quota
from .links import Wrong

_SHORTEST_MS, _LONGEST_MS = 10, 1_000


def wrong_with_starving(one: StarveCpu) -> Iterator[Wrong]:
    """Options that do not go together, and what no kernel can do."""
    yield from _wrong_with_cores(one) if one.cores is not None else _wrong_with_share(one)


def _wrong_with_cores(one: StarveCpu) -> Iterator[Wrong]:
    shares = {"percent": one.percent is not None, "how": one.how != "auto", "climb": bool(one.climb_ms)}
    for key in (key for key, given in {**shares, "load": bool(one.load)}.items() if given):
        hint = "for both write two faults, under `together`"
        yield Wrong(f"cores leaves the target all of these processors: {key} does not go with it", key, hint)
    if one.cores == ():
        yield Wrong("on no processor at all nothing runs", "cores", "name at least one; or use suspend")


def _wrong_with_share(one: StarveCpu) -> Iterator[Wrong]:
    if not _SHORTEST_MS <= one.slice_ms <= _LONGEST_MS:
        yield Wrong(f"a slice is between {_SHORTEST_MS}ms and 1s", "slice")
    elif one.slice_ms * 1_000 * one.share < quota.LEAST_US * 100:
        yield Wrong(f"{one.share} % of {one.slice_ms} is less than the kernel gives", "slice", "make slice longer")
    for key in (key for key, given in (("climb", one.climb_ms), ("load", one.load)) if given and one.how == "duty"):
        yield Wrong(f"{key} is done by a quota", "how", "leave how out")
    if one.climb_ms >= one.for_ms:
        yield Wrong(f"the fault is over ({one.for_ms}) before it is there", "climb", "make for longer")
