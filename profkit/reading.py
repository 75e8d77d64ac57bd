"""Run directories read, analyzed and judged: what a report is made of."""

from dataclasses import replace
from pathlib import Path

from .analyze.breakdown import break_down
from .analyze.compare import contention, unknown_contention
from .analyze.core_waits import core_wait_share
from .analyze.course import course_of
from .analyze.loader_findings import examine_loader
from .analyze.training_loader import training_loader
from .analyze.usual_questions import usual_questions
from .analyze.what_if import LEAST_BATCHES, predict
from .diagnose.policy import BUSY_CORES_SHARE
from .diagnose.situation import Situation
from .diagnose.stragglers import judge_ranks
from .diagnose.verdict import judge
from .errors import ProfkitError, RunError
from .probe.liveness import is_alive
from .render.wording import busy_line, ending_line
from .schema.drilldown import Drilldown
from .schema.estimate import Estimate
from .schema.findings import EndingKind, RunFindings, Verdict
from .schema.loader import LoaderRecord
from .schema.prediction import Predictions
from .schema.ranks import RankRecord, RanksFindings
from .schema.record import RunRecord
from .schema.run import KILLED
from .schema.stage import STAGES, Stage
from .scripts.run_ending import read_ending
from .scripts.signals import read_death
from .store.chrome_trace import FULL_TRACE, OPERATOR_SOURCES, read_operator_sources, read_trace
from .store.loader_record import read_loader_record
from .store.passes import TORCH, read_lines, read_stacks
from .store.rank_directories import read_ranks
from .store.records import read_run
from .store.windows import SAMPLES, read_windows

EVERY_STAGE = "step"
"""What a drill-down into all stages is asked for as."""
_UNREAD_SHOWN = 8


def rank_findings(launch: Path) -> tuple[RanksFindings, list[RunFindings]]:
    """All ranks beside each other; the lowest that can be read and the straggler by themselves."""
    record = read_ranks(launch)
    told = tuple(_told_how_it_ended(launch / one.directory, one) for one in record.ranks)
    record = replace(record, ranks=told)
    ranks = judge_ranks(record)
    directories = {one.rank: launch / one.directory for one in record.ranks}
    shown: list[RunFindings] = []
    unread: list[str] = []
    lowest = iter(directories)
    while not shown and (rank := next(lowest, None)) is not None:
        shown += _shown_rank(rank, directories[rank], unread)
    straggler = ranks.stragglers[0].rank if ranks.stragglers else None
    if straggler is not None and straggler != rank:
        shown += _shown_rank(straggler, directories[straggler], unread)
    if not shown:
        raise RunError(f"{launch}: no rank's run can be read: {unread[0]}")
    return replace(ranks, gaps=(*ranks.gaps, *unread[:_UNREAD_SHOWN])), shown


def _told_how_it_ended(run: Path, one: RankRecord) -> RankRecord:
    """The rank with its end in words, where it could not write that any more."""
    manifest = one.manifest
    if manifest.ended is not None:
        return one
    ended = read_death(run)
    if ended is None and manifest.process is not None and is_alive(manifest.process) is False:
        ended = KILLED
    return replace(one, manifest=replace(manifest, ended=ended))


def _shown_rank(rank: int, directory: Path, unread: list[str]) -> list[RunFindings]:
    try:
        record = read_run(directory)
    except RunError as error:  # its summary was there
        unread.append(f"rank {rank} cannot be shown by itself: {error}")
        return []
    name = f"rank {rank} of {record.manifest.name}"
    named = replace(record, manifest=replace(record.manifest, name=name))
    return [run_findings(directory, named)]


def run_findings(run: Path, recorded: RunRecord) -> RunFindings:
    """One run, analyzed and judged.

    Args:
        run: its directory, for what its passes and windows left.
        recorded: what was read of it.
    """
    manifest = recorded.manifest
    gaps = [*manifest.gaps, *recorded.reading_gaps]
    gaps += [probe.gap for probe in manifest.probes if probe.gap is not None]
    ending = read_ending(run, recorded)
    if ending.kind is not EndingKind.RECORDED:
        gaps.append(ending_line(ending))
    breakdown = break_down(recorded.steps)
    asked = _asked_stages(manifest.asked_stage)
    stages = tuple(stage for stage in asked if breakdown.stages[stage] is not None)
    if len(asked) == 1 and not stages:
        gaps.append(f"stage {asked[0].label} was asked for, but never observed in this run")
    drilldown, idle = _drill_down(run, recorded, stages, gaps)
    drilldown = (*_places(run, recorded, breakdown.disturbed, gaps), *drilldown)
    wait = core_wait_share(manifest)
    seen = contention(recorded, wait)
    if seen is None and (unknown := unknown_contention(recorded)) is not None:
        gaps.append(unknown)
    looked = training_loader(recorded, read_loader_record(run))
    loader = None if looked is None else examine_loader(looked)
    if loader is not None:
        gaps += loader.gaps
    situation = Situation(
        manifest, breakdown, seen, idle, None if loader is None else loader.producer
    )
    verdicts = judge(situation)
    if wait is not None and _is_slowed(wait, verdicts):
        gaps.append(busy_line(wait))
    if situation.on_device and idle is None:
        gaps.append(
            "no device activity was traced: whether the data wait is hidden behind queued work "
            "is not known, so it is not called a bottleneck"
        )
    return RunFindings(
        manifest=manifest,
        ending=ending,
        breakdown=breakdown,
        core_wait=wait,
        contention=seen,
        verdicts=verdicts,
        drilldown=drilldown,
        marks=recorded.marks,
        gaps=tuple(gaps),
        loader=loader,
        what_if=_what_if(looked, recorded),
    )


def _what_if(looked: LoaderRecord | None, recorded: RunRecord) -> Predictions | None:
    """What changes would give; None of too few steps."""
    course = course_of(recorded, looked)
    if len(course) < LEAST_BATCHES:
        return None
    cores = recorded.manifest.environment.hardware.usable_cores
    questions = usual_questions(course, cores)
    return predict(recorded.manifest.name, course, cores, questions)


def _is_slowed(core_wait: Estimate, verdicts: tuple[Verdict, ...]) -> bool:
    """Whether others had the loop's cores, and no verdict says so."""
    if core_wait.low is None or core_wait.low < BUSY_CORES_SHARE:
        return False
    return not any(one.kind == "contended" for one in verdicts)


def _asked_stages(asked: str | None) -> tuple[Stage, ...]:
    if asked is None:
        return ()
    return STAGES if asked == EVERY_STAGE else (Stage(asked),)


def _places(
    run: Path, recorded: RunRecord, disturbed: int, gaps: list[str]
) -> tuple[Drilldown, ...]:
    """What `other` holds by the stack samples of the light pass, where there are any.

    They need nobody to ask for them, and no entry in the manifest: a run that was killed has them.
    """
    windows = read_windows(run)
    if not windows:
        return ()
    from .analyze.other_places import NOTHING, other_places

    stated = {probe.name: probe.steps for probe in recorded.manifest.probes}
    found = other_places(windows, stated.get(SAMPLES, disturbed))
    if found.costs:
        return (found,)
    if found.gap is not None and found.gap != NOTHING:
        gaps.append(found.gap)
    return ()


def _drill_down(
    run: Path, recorded: RunRecord, stages: tuple[Stage, ...], gaps: list[str]
) -> tuple[tuple[Drilldown, ...], float | None]:
    """What the traced passes saw of these stages, and the device's idle part of the wait."""
    steps = {probe.name: probe.steps for probe in recorded.manifest.probes if probe.gap is None}
    found: list[Drilldown] = []
    idle: list[float | None] = [None]

    def torch() -> None:
        from .analyze.operators import all_operator_costs, device_idle_in_wait_share

        traced = read_trace(run / TORCH / FULL_TRACE)
        idle[0] = device_idle_in_wait_share(traced)
        sources_path = run / TORCH / OPERATOR_SOURCES
        sources = read_operator_sources(sources_path) if sources_path.exists() else None
        found.extend(all_operator_costs(traced, sources, stages))

    def stacks() -> None:
        from .analyze.stacks import stack_costs

        text = read_stacks(run)
        found.extend(stack_costs(text, stage, steps["stacks"]) for stage in stages)

    def lines() -> None:
        from .analyze.lines import line_costs

        figures = read_lines(run)
        found.extend(line_costs(figures, stage, steps["lines"]) for stage in stages)

    for name, read in (("torch", torch), ("stacks", stacks), ("lines", lines)):
        if name in steps:
            try:
                read()
            except ProfkitError as error:  # a damaged pass must hide neither times nor others
                gaps.append(f"the {name} pass could not be read: {error}")
    found.sort(key=lambda one: STAGES.index(one.stage))
    return tuple(found), idle[0]
