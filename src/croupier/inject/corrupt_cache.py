"""Corrupt_cache: `corrupt`, on the file of a cache."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.disk import CorruptCache
from .corrupt import CorruptInjector


class CorruptCacheInjector(CorruptInjector):
    """Carries out `corrupt_cache`."""

    kind = "corrupt_cache"
    spec: type[Fault] = CorruptCache
    summary = "Damage a file of a cache, for a while: it may lose it, and may never answer what it was not given."
    example = 'corrupt_cache: {path: "${state}/cache/*", do: zero, for: 3s}'


INJECTOR = CorruptCacheInjector()
