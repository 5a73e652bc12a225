"""The experiment whose plans are kept here. Run it with a seed, and it prints the bytes of the plan.

    python tests/golden/experiment.py 42 > tests/golden/plan-42.json

Those bytes are a promise to everybody who wrote a seed down: they change with `PLAN_VERSION`, and never without.
"""

from __future__ import annotations

import sys

from croupier.model.experiment import (
    After,
    ExactInjection,
    Experiment,
    Limits,
    LogTrigger,
    On,
    ProcessSpec,
    Readiness,
    Schedule,
    WheelEntry,
    Workload,
)
from croupier.model.fault import Duty, Kill, Suspend
from croupier.model.plan import draw_plan, plan_json
from croupier.model.probe import Http
from croupier.model.target import Selector
from croupier.model.units import Ms, Percent, Rate

HEALTH = Http(url="http://127.0.0.1:${port.web}/health", within_ms=Ms(500))
CHILD = Selector(process="web", pick="children")


def roulette() -> Experiment:
    """A service with workers under every kind of trigger, with weights per stage."""
    return Experiment(
        version=1,
        title="Notes survive killed workers – naïvely",
        hypothesis="No acknowledged note is lost or doubled, and the service answers again within 5 s.",
        processes={
            "web": ProcessSpec(command=("gunicorn", "--workers=3", "notes:app"), ready=Readiness(probe=HEALTH)),
        },
        workload=Workload(command=("python", "load.py", "http://127.0.0.1:${port.web}")),
        steady_state=(HEALTH,),
        faults=(
            WheelEntry(fault=Kill(signal="TERM", then="KILL", grace_ms=Ms(500)), target=CHILD, weight=3),
            WheelEntry(fault=Suspend(for_ms=Ms(2_000)), target=CHILD, when_blast_radius={"ci": 5, "canary": 0}),
            WheelEntry(
                fault=Suspend(for_ms=Ms(3_000), tree=True, duty=Duty(on_ms=Ms(200), off_ms=Ms(100))),
                target=Selector(process="web", pick="tree", percent=Percent(50)),
            ),
        ),
        schedule=Schedule(every_ms=Ms(5_000), jitter_ms=Ms(2_000), for_ms=Ms(60_000)),
        injections=(
            ExactInjection(fault=Kill(), target=Selector(process="web", pick="main"), at_ms=Ms(3_000)),
            ExactInjection(fault=Kill(), target=CHILD, after=After(injection=1, plus_ms=Ms(2_000))),
            ExactInjection(
                fault=Kill(signal="USR1"),
                target=Selector(process="web", exclude=(Selector(name="gunicorn*", order="newest"),)),
                on=On(log=LogTrigger(process="web", match="flush", nth=2), plus_ms=Ms(50)),
            ),
        ),
        limits=Limits(injections=12, rate=Rate(10, 60_000)),
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(plan_json(draw_plan(roulette(), int(sys.argv[1]))))
