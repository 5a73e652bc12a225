"""What people and build servers read after a round: one page of HTML, JUnit XML, and a few lines for a terminal.

All three are made from the verdict and the journal, and change nothing. What programs printed is hostile text: it is
cleaned and escaped before it gets anywhere near a page or a terminal.
"""

from .junit import junit
from .page import page
from .search_page import search_page
from .search_text import search_summary
from .summary import summary
from .text import one_line as plain

__all__ = ["junit", "page", "plain", "search_page", "search_summary", "summary"]
