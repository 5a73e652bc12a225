"""Where nouns meet verbs for a search: record one workload, check recovery at every moment it could have died."""

from .api import explore
from .search import Search

__all__ = ["Search", "explore"]
