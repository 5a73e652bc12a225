"""What every noun is made of: frozen, keyword-only values that refuse unknown keys.

The file people write, the plan and the journal are all read into these, so a wrong key or type is caught at the
edge, with its path, and never travels further in.
"""

from __future__ import annotations

import msgspec


class Noun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A plain value of the model. Equal by content, safe to share, cheap to write down."""
