"""States of a directory as a program changes it: kept once, found by digest, made into a directory again.

store = Store(run / "states")
recorder = Recorder(state, store)
before = recorder.snapshot()
…one call of the program…
after = recorder.snapshot(touched(operation))
materialise(store, after, into)
"""

from .edit import assemble, cut_file, derive, entries_of, torn
from .hints import cuts, touched
from .materialise import Weight, materialise, weigh
from .objects import Store
from .record import Recorder, Touched

__all__ = [
    "Recorder",
    "Store",
    "Touched",
    "Weight",
    "assemble",
    "cut_file",
    "cuts",
    "derive",
    "entries_of",
    "materialise",
    "torn",
    "touched",
    "weigh",
]
