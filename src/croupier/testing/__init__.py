"""For authors of plugins: does a fault, or a probe, keep the rules that a round relies on?

    from croupier.testing import check_fault, check_probe

`check_fault` and `check_probe` try a plugin against every rule (`FAULT_RULES`, `PROBE_RULES`), on real processes that
they start themselves and leave nothing of behind. `FakeWorld`, `RecordingAct` and `a_permit` are for unit tests of
your own. Needs no pytest: what is broken is raised as `RuleBroken`, an AssertionError that says what to do.
"""

from .act import Observe, RecordingAct, Step
from .faults import check_fault
from .probes import check_probe
from .rules import FAULT_RULES, PROBE_RULES, Rule, RuleBroken
from .targets import Spawn, Target, a_process, fingerprint
from .world import FakeWorld, a_permit

__all__ = [
    "FAULT_RULES",
    "PROBE_RULES",
    "FakeWorld",
    "Observe",
    "RecordingAct",
    "Rule",
    "RuleBroken",
    "Spawn",
    "Step",
    "Target",
    "a_permit",
    "a_process",
    "check_fault",
    "check_probe",
    "fingerprint",
]
