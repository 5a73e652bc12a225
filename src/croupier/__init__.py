"""Croupier: process roulette under control.

    from croupier import Options, catalogue, draw_plan, load_experiment, run_round

    known = catalogue()
    loaded = load_experiment(Path("experiment.yaml"), known)
    finished = run_round(loaded, draw_plan(loaded.experiment, seed=42), known, Options())
    print(finished.verdict.verdict)

The public names, nothing else; each is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .explore import explore
    from .load import load_experiment, load_text
    from .model.errors import CroupierError, ExperimentError, HarnessError, Refused, ReplayError, TargetError
    from .model.experiment import Experiment
    from .model.plan import Plan, draw_plan
    from .model.search import SearchResult
    from .model.verdict import Verdict, judge
    from .registry import Catalogue, catalogue
    from .run import Finished, Options, compare, run_round
    from .store import read_journal

__version__ = "0.1.0"

_HOMES = {
    "load_experiment": "load", "load_text": "load",
    "CroupierError": "model.errors", "ExperimentError": "model.errors", "HarnessError": "model.errors",
    "Refused": "model.errors", "ReplayError": "model.errors", "TargetError": "model.errors",
    "Experiment": "model.experiment", "Plan": "model.plan", "draw_plan": "model.plan",
    "SearchResult": "model.search", "explore": "explore",
    "Verdict": "model.verdict", "judge": "model.verdict",
    "Catalogue": "registry", "catalogue": "registry",
    "Finished": "run", "Options": "run", "compare": "run", "run_round": "run",
    "read_journal": "store",
}  # fmt: skip

__all__ = [
    "Catalogue",
    "CroupierError",
    "Experiment",
    "ExperimentError",
    "Finished",
    "HarnessError",
    "Options",
    "Plan",
    "Refused",
    "ReplayError",
    "SearchResult",
    "TargetError",
    "Verdict",
    "__version__",
    "catalogue",
    "compare",
    "draw_plan",
    "explore",
    "judge",
    "load_experiment",
    "load_text",
    "read_journal",
    "run_round",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'croupier' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
