"""Made-up findings of a gate."""

from dataclasses import replace

from conftest import HARDWARE
from profkit.schema.decision import Decision, Outcome
from profkit.schema.estimate import Estimate
from profkit.schema.gate import GateFindings, Noise, StageChange, Version
from profkit.schema.run import Environment, LoaderFacts
from profkit.schema.stage import STAGES, Stage

MS = 1e6


def version(name: str, forward_ms: float, commit: str | None) -> Version:
    stages: dict[Stage, float | None] = dict.fromkeys(STAGES)
    stages |= {
        Stage.DATALOADER: 2 * MS,
        Stage.FORWARD: forward_ms * MS,
        Stage.BACKWARD: 5.5 * MS,
        Stage.OTHER: 0.02 * MS,
    }
    mean = sum(taken for taken in stages.values() if taken is not None)
    loader = LoaderFacts("DataLoader", 64, 2, 2)
    return Version(name, "train.py --epochs 1", commit, 3, 1200, 0.97 * mean, mean, stages, loader)


def ratio(value: float, width: float, limit: float, outcome: Outcome, what: str) -> Decision:
    return Decision(
        what, "ratio", Estimate(value, value - width, value + width, 60), limit, outcome
    )


def share(value: float, limit: float, outcome: Outcome) -> Decision:
    interval = Estimate(value, value - 0.01, value + 0.01, 240)
    return Decision("share of dataloader", "share", interval, limit, outcome)


def findings(outcome: Outcome, *decisions: Decision, with_base: bool = True) -> GateFindings:
    base = version("main", 3.0, "0123abc") if with_base else None
    new = version("working tree", 4.2, "0123abc+changes")
    changes = (
        StageChange(Stage.FORWARD, 1.2 * MS, Estimate(1.4, 1.38, 1.42, 60)),
        StageChange(Stage.BACKWARD, 0.001 * MS, Estimate(1.0002, 0.99, 1.01, 60)),
        StageChange(Stage.DATALOADER, 0.0, Estimate(1.0, 0.99, 1.01, 60)),
        StageChange(Stage.OTHER, 0.0, Estimate(1.0, 0.9, 1.1, 60)),
    )
    return GateFindings(
        outcome=outcome,
        decisions=decisions,
        base=base,
        new=new,
        changes=changes if with_base else (),
        noise=Noise(block_share=0.012, warm_up_blocks=8, outliers=1, drift=None),
        environment=Environment(HARDWARE, {"python": "3.11.0"}, 1, 1, None),
        device="cpu",
        looks=2,
        measured_s=9.3,
        wall_s=23.4,
    )


def regression() -> GateFindings:
    return replace(
        findings(
            Outcome.ABOVE,
            ratio(1.114, 0.011, 1.05, Outcome.ABOVE, "typical step"),
            ratio(1.12, 0.02, 1.10, Outcome.INCONCLUSIVE, "throughput"),
            share(0.17, 0.2, Outcome.BELOW),
        ),
        gaps=("data: ignored by git and large, so all instances use the working tree's own",),
    )
