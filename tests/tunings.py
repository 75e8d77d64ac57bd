"""Made-up findings of tuning."""

from conftest import HARDWARE
from profkit.schema.estimate import Estimate
from profkit.schema.fix import Fix, FixFacts, Knob, Same
from profkit.schema.paced import InstanceFacts
from profkit.schema.prediction import Change, Prediction, Question
from profkit.schema.run import Environment, LoaderFacts
from profkit.schema.stage import STAGES, Stage
from profkit.schema.tuning import Gain, Trial, TuneFindings
from profkit.verify.catalogue import Ground

MEMORY = Fix(
    "data in memory", Knob.DATA, helps="all fit", recipe=("for rows in batches:", "    take(rows)")
)
ONE_WORKER = Fix("1 worker", Knob.WORKERS, 1)
TWO_WORKERS = Fix("2 workers", Knob.WORKERS, 2)
NO_WORKERS = Fix("no workers", Knob.WORKERS, 0)
PREFETCH = Fix("prefetch 4", Knob.PREFETCH, 4)
ONE_THREAD = Fix(
    "1 intra-op thread", Knob.THREADS, 1, same=Same.BATCHES, tolerance=1e-3, drift=0.02
)
BF16 = Fix(
    "bf16 autocast", Knob.PRECISION, "bfloat16", same=Same.BATCHES, tolerance=0.05, drift=0.05
)
FUSED = Fix(
    "fused optimizer", Knob.OPTIMIZER, "fused", same=Same.BATCHES, tolerance=1e-3, drift=0.02
)


def ground(workers: int | None = 0, threads: int = 2, cores: int = 2, **taken: float) -> Ground:
    """A program whose stages take so much, in any unit."""
    loader = None if workers is None else LoaderFacts("DataLoader", 4, workers, None)
    facts = InstanceFacts(
        environment=Environment(HARDWARE, {}, threads, 1, None),
        device="cpu",
        loader=loader,
        step_ns=1_000_000,
        modules=(),
        fixes=FixFacts({}, (1,), (1.0,), "train.py:3"),
    )
    stages: dict[Stage, float | None] = dict.fromkeys(STAGES)
    stages |= {Stage(name): value for name, value in taken.items()}
    return Ground(facts, cores, stages)


def estimate(value: float, reach: float = 0.05) -> Estimate:
    return Estimate(value, value * (1 - reach), value * (1 + reach), 40)


def prediction(value: float, reach: float = 0.05) -> Prediction:
    return Prediction(Question(Change.MEMORY), estimate(1e6), estimate(value, reach), None)


def trial(
    *fixes: Fix,
    value: float | None = None,
    gain: Gain = Gain.FASTER,
    same: bool | None = True,
    reason: str | None = None,
    adds: bool | None = None,
    reach: float = 0.05,
) -> Trial:
    speedup = None if value is None else estimate(value, reach)
    return Trial(fixes, None, speedup, gain, same, reason, adds=adds)


def findings(*trials: Trial, gaps: tuple[str, ...] = ()) -> TuneFindings:
    return TuneFindings(
        command="train.py",
        step_ns=40e6,
        environment=Environment(HARDWARE, {"python": "3.11.0"}, 2, 1, None),
        device="cpu",
        loader=LoaderFacts("DataLoader", 512, 0, None),
        trials=trials,
        runs=9,
        wall_s=58.2,
        budget_s=60.0,
        gaps=gaps,
    )
