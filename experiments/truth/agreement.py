"""What a program measured of itself, beside what profkit says of the same steps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .expected import Expected, agrees, expect
from .settings import Setting

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STAGES = ("dataloader", "transfer", "forward", "backward", "optimizer", "other")
MODEL = ("forward", "backward", "optimizer")
BLOCK_START = 8
"""The one flag of a step whose times count."""
LOGGER = "log_metrics"


class TruthError(Exception):
    """The two records of a run do not belong together."""


@dataclass(frozen=True, slots=True)
class Place:
    """The costliest place of `other` as it was named, and its share of the step."""

    name: str
    said_share: float
    true_share: float

    @property
    def error(self) -> float:
        """Difference of the two shares."""
        return abs(self.said_share - self.true_share)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One setting.

    Attributes:
        steps: timed by profkit, and compared.
        true_ns: mean a step, by stage.
        said_ns: the same as profkit says; None where it saw no such stage.
        step_ns: mean of the step itself.
        errors: |said - true| / step, by stage; none for a stage that is not there.
        signed: said - true, ns, by stage.
        errors_of_all: the same against all steps after the warm-up, disturbed ones included.
        between_share: time that profkit took between steps, over the time of the steps.
        paid_ns: injected cost, mean a step, by place.
        kinds, severity: the verdicts, the first one first, and how severe that is.
        expected: what may be said.
        shrink: see `expect`.
        place: where something was logged, and enough samples were taken.
        core_wait: part of the time that the loop waited for a core, by profkit; None if unknown.
        is_absence_right: whether exactly the stages that do not happen are absent.
    """

    setting: Setting
    steps: int
    true_ns: dict[str, float]
    said_ns: dict[str, float | None]
    step_ns: float
    errors: dict[str, float]
    signed: dict[str, float]
    errors_of_all: dict[str, float]
    between_share: float
    paid_ns: dict[str, float]
    kinds: list[str]
    severity: str
    expected: Expected
    shrink: float | None
    place: Place | None
    core_wait: float | None
    is_absence_right: bool

    @property
    def agrees(self) -> bool:
        """Whether the verdict is one that the truth gives."""
        return agrees(self.expected, self.kinds, self.severity)

    @property
    def worst(self) -> float:
        """The largest error of a stage."""
        return max(self.errors.values())


@dataclass(frozen=True, slots=True)
class Truth:
    """What a program wrote.

    Attributes:
        moments: (n, 8) int64, see `ledger`.
        paid: (n,) int64 ns by place.
    """

    moments: Ints
    paid: dict[str, Ints]

    @property
    def stage_ns(self) -> Ints:
        """(n, 6) int64."""
        taken: Ints = np.diff(self.moments[:, 1:], axis=1)
        return taken


def read_truth(path: Path) -> Truth:
    """What a program wrote about itself."""
    content: dict[str, Any] = json.loads(path.read_text())
    paid = {place: np.array(values, np.int64) for place, values in content["paid"].items()}
    return Truth(np.array(content["moments"], np.int64), paid)


def match_steps(run: Path, truth: Truth, count: int) -> Ints:
    """Rows of the truth that are the steps which profkit timed.

    Both read the same clock in one process: profkit opens a step while the loop asks for a batch.

    Args:
        run: run directory, whose steps are an Arrow stream.
        truth: of the same run.
        count: steps that the report says were timed.

    Raises:
        TruthError: they do not match one to one, or are not as many.
    """
    with (run / "steps.arrow").open("rb") as file:
        steps = pa.ipc.open_stream(file).read_all()
    start: Ints = steps["start_ns"].to_numpy()
    flags: Ints = steps["flags"].to_numpy()
    return match_starts(start, flags, truth.moments, count)


def match_starts(start: Ints, flags: Ints, moments: Ints, count: int) -> Ints:
    """The same for what was read: (n,) starts in ns and flags of profkit's steps."""
    timed = start[(flags & ~BLOCK_START) == 0]
    rows: Ints = np.searchsorted(moments[:, 0], timed, side="right") - 1
    if timed.size != count:
        raise TruthError(f"{timed.size} steps without flags, but the report has {count}")
    inside = (rows >= 0) & (timed <= moments[rows, 1])
    if not inside.all() or np.unique(rows).size != rows.size:
        raise TruthError("a step of profkit's opens where the loop asked for no batch")
    return rows


def compare(
    setting: Setting,
    run: Path,
    report: dict[str, Any],
    truth: Truth,
    warmup: int,
    alone_ns: float | None,
) -> Outcome:
    """One run of a setting.

    Args:
        setting: what ran.
        run: its run directory.
        report: profkit's, as JSON, of this one run.
        truth: as the program wrote it.
        warmup: steps that profkit was told to leave out.
        alone_ns: what forward to optimizer take without the workers' load, where measured.
    """
    (found,) = report["runs"]
    count = found["steps"]["count"]
    rows = match_steps(run, truth, count)
    taken = truth.stage_ns
    true_ns = dict(zip(STAGES, taken[rows].mean(axis=0).tolist(), strict=True))
    of_all = dict(zip(STAGES, taken[warmup:].mean(axis=0).tolist(), strict=True))
    step_ns = sum(true_ns.values())
    said_ns = {
        stage: None if one is None else one["total_ns"] / count
        for stage, one in found["stages"].items()
    }
    there = [s for s in STAGES if s != "transfer" or "transfer" in setting.places]
    signed = {stage: (said_ns[stage] or 0.0) - true_ns[stage] for stage in there}
    shares = {stage: value / step_ns for stage, value in true_ns.items()}
    shrink = None
    cores = found["run"]["hardware"]["usable_cores"]
    if alone_ns is not None and setting.workers + setting.threads > cores:
        shrink = 1 - alone_ns / sum(true_ns[stage] for stage in MODEL)
    verdict = found["verdict"]
    between = truth.moments[:, 1] - truth.moments[:, 0]
    return Outcome(
        setting=setting,
        steps=count,
        true_ns=true_ns,
        said_ns=said_ns,
        step_ns=step_ns,
        errors={stage: abs(value) / step_ns for stage, value in signed.items()},
        signed=signed,
        errors_of_all={
            stage: abs((said_ns[stage] or 0.0) - of_all[stage]) / sum(of_all.values())
            for stage in there
        },
        between_share=float(between[warmup:].sum() / taken[warmup:].sum()),
        paid_ns={place: float(values[rows].mean()) for place, values in truth.paid.items()},
        kinds=[verdict["kind"], *(one["kind"] for one in verdict["also"])],
        severity=verdict["severity"],
        expected=expect(shares, shrink),
        shrink=shrink,
        place=_place(found, truth, rows, step_ns),
        core_wait=None if found["core_wait"] is None else found["core_wait"]["share"],
        is_absence_right={s for s in STAGES if said_ns[s] is not None} == set(there),
    )


def model_ns(truth: Truth, warmup: int) -> float:
    """Mean of forward to optimizer over all steps after the warm-up."""
    columns = [STAGES.index(stage) for stage in MODEL]
    return float(truth.stage_ns[warmup:, columns].sum(axis=1).mean())


def _place(found: dict[str, Any], truth: Truth, rows: Ints, step_ns: float) -> Place | None:
    if "logging" not in truth.paid:
        return None
    costs = [one["costs"] for one in found["drilldown"] if one["probe"] == "samples"]
    true_share = float(truth.paid["logging"][rows].mean()) / step_ns
    if not costs or not costs[0]:
        return Place("", 0.0, true_share)
    first = costs[0][0]
    said = first["share"] * (found["stages"]["other"] or {"share": 0.0})["share"]
    return Place(f"{first['source']} {first['name']}", said, true_share)
