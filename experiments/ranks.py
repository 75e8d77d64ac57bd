"""A thousand ranks with a known slow one: `python -m experiments.ranks` writes reports/ranks.md.

Makes up what 1,024 ranks of a synchronous training leave on disk, and measures how long
`profkit report` takes on it, how much memory, and how often it names the rank that was slowed and
its stage. Takes about seven minutes on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

import profkit
from profkit.recorder import new_manifest
from profkit.schema.ranks import RankSummary
from profkit.schema.run import COMPLETED, RankFacts, RunManifest
from profkit.schema.sampling import stride
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import StepTable
from profkit.store.rank_summary import STEPS_AN_OCTAVE, save_summary, write_summary
from profkit.store.run_directory import create_directory, write_manifest
from profkit.store.streams import RunWriter

from .measured import head, save, spread

REPORT = Path("reports", "ranks.md")
TARGET_S, TARGET_GIB = 10.0, 1.0
STEP_NS = 100e6
COMMUNICATION_SHARE = 0.05
SLOWED = 0.10
NOISE = 0.05
"""Log-normal standard deviation of each stage at each step of each rank."""
RANK_SPREAD = 0.0095
"""The same of what a whole rank differs by for good: two processes of identical code differ by
0.0135 (FACTS §10), which is this times the root of two."""
DRIFT = 0.01
"""The same of what all ranks drift by together from step to step."""
SHARES = (3.0, 0.5, 3.0, 5.0, 1.0, 0.5)
"""Dirichlet parameters of the stages' shares: on average data wait 23 %, transfer 4 %, forward
23 %, backward 38 %, optimizer 8 %, other 4 %."""
FINDABLE_SHARE = 0.20
"""A stage that holds so much of the step makes it 2 % longer when it is slowed by 10 %."""
RECOVERED_LIMIT = 0.02
"""What a rule that looks at the recovered time alone would ask for."""
EDGES = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 1.0)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One made-up launch; `stage` None for balanced ranks."""

    seed: int
    rank: int
    stage: Stage | None
    shares: tuple[float, ...]

    @property
    def injected_share(self) -> float:
        """Part of the typical step that the injected slowness takes."""
        if self.stage is None:
            return 0.0
        slowed = SLOWED * self.shares[STAGES.index(self.stage)]
        return slowed / (1 + slowed + COMMUNICATION_SHARE)


def draw_case(seed: int, world: int, least_share: float | None) -> Case:
    """A case by the stated rule: any stage that holds at least `least_share`; None for none."""
    draw = np.random.default_rng([seed, 1])
    shares = draw.dirichlet(SHARES)
    while least_share is not None and shares.max() < least_share:
        shares = draw.dirichlet(SHARES)
    stage = None
    if least_share is not None:
        stage = STAGES[int(draw.choice(np.flatnonzero(shares >= least_share)))]
    return Case(seed, int(draw.integers(world)), stage, tuple(shares.tolist()))


def make_up(case: Case, world: int, steps: int) -> Iterator[StepTable]:
    """The steps of each rank: all wait in backward for the last one, then communicate."""
    draw = np.random.default_rng([case.seed, 2])
    factor = np.exp(draw.normal(0, NOISE, (world, steps, len(STAGES))))
    factor *= np.exp(draw.normal(0, RANK_SPREAD, (world, 1, 1)))
    factor *= np.exp(np.cumsum(draw.normal(0, DRIFT, steps)))[:, None]
    work: Values = STEP_NS * np.array(case.shares) * factor
    if case.stage is not None:
        work[case.rank, :, STAGES.index(case.stage)] *= 1 + SLOWED
    taken = work.astype(np.int64)
    after = taken[..., [STAGES.index(Stage.OPTIMIZER), STAGES.index(Stage.OTHER)]].sum(axis=2)
    # What follows the collective makes a rank come late to the next one.
    carried = np.concatenate([np.zeros((world, 1), np.int64), after[:, :-1]], axis=1)
    arrived = taken.sum(axis=2) - after + carried
    wait = arrived.max(axis=0) - arrived + int(COMMUNICATION_SHARE * STEP_NS)
    taken[..., STAGES.index(Stage.BACKWARD)] += wait
    starts = draw.integers(0, 10**15, world)  # clocks have nothing in common
    for rank in range(world):
        ends = starts[rank] + np.cumsum(taken[rank].sum(axis=1))
        yield StepTable(
            start_ns=ends - taken[rank].sum(axis=1),
            end_ns=ends,
            stage_ns=taken[rank],
            marked=np.ones((steps, len(STAGES)), np.bool_),
            collective_wait_ns=wait[rank],
            samples=np.full(steps, 32, np.int64),
            flags=np.zeros(steps, np.int64),
        )


def write_launch(
    place: Path, base: RunManifest, tables: Iterator[StepTable], world: int, *, summaries: bool
) -> None:
    """What these ranks leave on disk; without summaries as after a kill of all of them."""
    for rank, steps in enumerate(tables):
        directory = place / f"rank-{rank}"
        create_directory(directory)
        ended = COMPLETED if summaries else None
        facts = RankFacts(rank, world, "made up")
        write_manifest(directory, replace(base, rank=facts, ended=ended))
        writer = RunWriter(directory)
        for first in range(0, len(steps), 20):  # as if flushed now and then
            writer.append(steps.select(np.arange(first, min(first + 20, len(steps)))))
        writer.close()
        if summaries:
            write_summary(directory, steps)


def stretch(place: Path, tables: Iterator[StepTable]) -> int:
    """Pretend that a launch had run 100 million steps: its summaries then have these rows."""
    every = [np.arange(128)] + [
        np.arange(1 << octave, 1 << (octave + 1), (1 << octave) // STEPS_AN_OCTAVE)
        for octave in range(7, 27)
    ]
    ordinal = np.concatenate(every)
    ordinal = ordinal[ordinal < 100_000_000]
    for rank, steps in enumerate(tables):
        rows = steps.select(np.arange(ordinal.size) % len(steps))
        summary = RankSummary(ordinal, stride(ordinal, STEPS_AN_OCTAVE), rows, 100_000_000)
        save_summary(place / f"rank-{rank}", summary)
    return int(ordinal.size)


def time_report(place: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak GiB of one `profkit report` in a process of its own."""
    code = (
        "import sys\n"
        "from profkit.cli import main\n"
        "try:\n"
        "    main('profkit')\n"
        "finally:\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    print(next(l.split()[1] for l in lines if l.startswith('VmHWM')), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "report", str(place), "-o", str(out), "--force"]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, int(done.stderr.split()[-1]) / 2**20


def measure_speed(
    scratch: Path, base: RunManifest, world: int, steps: int, times: int
) -> list[str]:
    """Time and memory of the report, for three states of the same launch."""
    case = draw_case(0, world, FINDABLE_SHARE)
    rows = []
    worst_s, worst_gib = 0.0, 0.0
    for name in ("with summaries", "all killed: no summaries", "summaries as of 100 million steps"):
        place = scratch / "speed"
        killed = name.startswith("all killed")
        if not name.startswith("summaries as"):
            tables = make_up(case, world, steps)
            place = scratch / f"speed-{killed}"
            write_launch(place, base, tables, world, summaries=not killed)
        else:
            place = scratch / "speed-False"
            count = stretch(place, make_up(case, world, steps))
            name += f" ({count:,} rows)"
        taken = [time_report(place, scratch / "report.md") for _ in range(times)]
        seconds, gib = (list(column) for column in zip(*taken, strict=True))
        rows.append(f"| {name} | {spread(seconds)} | {max(seconds):.3g} | {max(gib):.3g} |")
        worst_s, worst_gib = max(worst_s, *seconds), max(worst_gib, *gib)
    verdict = "met" if worst_s <= TARGET_S and worst_gib <= TARGET_GIB else "missed"
    return [
        f"## `profkit report` on {world:,} ranks × {steps} steps",
        "",
        f"{times} new processes each, start-up included, files in the page cache.",
        "",
        "| what the ranks left | s: median (quartiles) | longest, s | peak memory, GiB |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        f"Target at most {TARGET_S:g} s and {TARGET_GIB:g} GiB: **{verdict}**.",
        "",
    ]


def judge(
    scratch: Path, base: RunManifest, case: Case, world: int, steps: int
) -> dict[str, object]:
    """What the report says of one case: written to disk, read back, as a program would."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        write_launch(Path(place), base, make_up(case, world, steps), world, summaries=True)
        ranks = json.loads(profkit.render_report(profkit.report(place), "json"))["ranks"]
    stage = None if case.stage is None else case.stage.value
    named = [(one["rank"], one["stage"]) for one in ranks["stragglers"]]
    right = named == [(case.rank, stage)]
    return {
        "named": named,
        "right": right,
        "injected": case.injected_share,
        "recovered": ranks["stragglers"][0]["recovered_share"] if right else None,
        "recovered_low": ranks["stragglers"][0]["recovered_share_interval"][0] if right else None,
        "excess": ranks["stragglers"][0]["excess_share"] if right else None,
        "lost": ranks["replay"]["lost_share"],
        "jitter": ranks["replay"]["jitter_share"],
        "error": ranks["replay"]["error_share"],
    }


def measure_recall(
    scratch: Path, base: RunManifest, world: int, steps: int, cases: int, balanced: int
) -> list[str]:
    """How often the right rank and stage are named, and how often somebody is for nothing."""
    findable = [
        judge(scratch, base, draw_case(4000 + seed, world, FINDABLE_SHARE), world, steps)
        for seed in range(cases)
    ]
    other = [
        judge(scratch, base, draw_case(5000 + seed, world, 0.0), world, steps)
        for seed in range(cases)
    ]
    equal = [
        judge(scratch, base, draw_case(6000 + seed, world, None), world, steps)
        for seed in range(balanced)
    ]
    right = sum(bool(one["right"]) for one in findable)
    alarms = sum(bool(one["named"]) for one in equal)
    wrong = sum(bool(one["named"]) and not one["right"] for one in findable + other)
    rows = []
    for low, high in zip(EDGES, EDGES[1:], strict=False):
        within = [one for one in findable + other if low <= float(str(one["injected"])) < high]
        found = sum(bool(one["right"]) for one in within)
        if within:
            ends = f"≥ {100 * low:g}" if high == 1 else f"{100 * low:g} to {100 * high:g}"
            rows.append(f"| {ends} | {len(within)} | {found} |")
    hit = [one for one in findable + other if one["right"]]
    by_replay = sum(float(str(one["recovered_low"])) >= RECOVERED_LIMIT for one in hit)

    def median(name: str, among: Sequence[dict[str, object]]) -> str:
        return f"{100 * float(np.median([float(str(one[name])) for one in among])):.2g} %"

    return [
        f"## Who is named: {world:,} ranks × {steps} steps",
        "",
        f"Each stage of each rank at each step is log-normal with a standard deviation of "
        f"{100 * NOISE:g} %; ranks differ for good by {100 * RANK_SPREAD:g} %; all drift together; "
        f"{100 * COMMUNICATION_SHARE:g} % are spent on communicating; each waits in backward for "
        "the last. The stages' shares are drawn anew for each case (Dirichlet, on average data "
        "wait 23 %, transfer 4 %, forward 23 %, backward 38 %, optimizer 8 %, other 4 %). One "
        f"rank, drawn evenly, is {100 * SLOWED:g} % slower in one stage. Right is: this rank, this "
        "stage, and nobody else.",
        "",
        f"- The stage drawn evenly from those that hold ≥ {100 * FINDABLE_SHARE:g} % of the work: "
        f"**{right} of {cases} right**.",
        f"- Balanced ranks: **{alarms} of {balanced}** with anybody named.",
        f"- Somebody wrong, or somebody else beside the right one: {wrong} of {2 * cases}.",
        "",
        f"By what the slowness adds to the step, with {cases} more cases whose stage is drawn "
        "evenly from all six, however small. profkit names a rank from 1 % of the step on, by the "
        "lower end of the interval.",
        "",
        "| added to the step, % | cases | right |",
        "|---:|---:|---:|",
        *rows,
        "",
        f"In the cases found, the excess of the slowed rank is {median('excess', hit)} of the step "
        f"in the median, and by the replay repairing it wins {median('recovered', hit)} back: "
        f"{median('lost', hit)} of the step is lost to unequal ranks, {median('jitter', hit)} "
        "because now this one is late, now that one, and with so many ranks some other one nearly "
        f"always is. By the recovered time alone, with a limit of {100 * RECOVERED_LIMIT:g} % of "
        f"the step, {by_replay} of {len(hit)} would be named. The replayed step differs from the "
        f"measured one by {median('error', hit)} in the median.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--balanced", type=int, default=20)
    parser.add_argument("--times", type=int, default=5, help="reports to time")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    base = replace(new_manifest("made up"), command="made up")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        speed = measure_speed(scratch, base, given.world, given.steps, given.times)
        begin = head(
            "A thousand ranks, one of them slow",
            "python -m experiments.ranks",
            scratch / "speed-True" / "rank-0",
        )
        recall = measure_recall(
            scratch, base, given.world, given.steps, given.cases, given.balanced
        )
    save(given.output, [*begin, *speed, *recall])


if __name__ == "__main__":
    main()
