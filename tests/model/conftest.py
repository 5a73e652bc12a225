"""Properties are about what is true, not about how fast this machine is today."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("croupier", deadline=None)
settings.load_profile("croupier")
