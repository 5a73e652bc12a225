"""Where nouns meet verbs for a round: perform the course's commands, feed events back, judge what was written."""

from .prepare import Options
from .replay import Divergence, compare
from .round import Finished, run_round

__all__ = ["Divergence", "Finished", "Options", "compare", "run_round"]
