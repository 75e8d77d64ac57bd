"""A run directory asked what its step would take after a change."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .analyze.changes import FIXES
from .analyze.course import Course, course_of
from .analyze.training_loader import training_loader
from .analyze.usual_questions import usual_questions
from .analyze.what_if import LEAST_BATCHES, predict
from .errors import InputError
from .schema.prediction import Change, Predictions, Question
from .schema.record import RunRecord
from .schema.stage import STAGES, Stage
from .store.loader_record import read_loader_record
from .store.records import read_run
from .store.run_directory import find_runs

_LEAST = {Change.WORKERS: 0, Change.PREFETCH: 1, Change.THREADS: 1}
"""The least number of each that there can be."""


def predict_run(
    path: Path, questions: Sequence[Question] = (), probes: Sequence[Path] = ()
) -> Predictions:
    """What a run says about changes.

    Args:
        path: a run directory, or one that holds some: then the first of them.
        questions: those that suit the run unless given.
        probes: runs of the same program on the same machine, with other loader workers or
            intra-op threads.

    Raises:
        InputError: too few steps to judge by, a question that makes no sense, or a probe with
            batches of another size.
        RunError: it is no run, is damaged, or comes from a newer profkit.
    """
    run, course, gaps = _read(path)
    cores = run.manifest.environment.hardware.usable_cores
    asked = tuple(_checked(one, course) for one in questions) or usual_questions(course, cores)
    probed = []
    for probe in probes:
        other, seen, _ = _read(probe)
        _check_batches(run, other, probe)
        probed.append(seen)
        if seen.workers is None:
            gaps = (*gaps, f"{probe} tells nothing: {seen.untold}")
    found = predict(run.manifest.name, course, cores, asked, probed)
    return replace(found, gaps=(*found.gaps, *gaps))


def _read(path: Path) -> tuple[RunRecord, Course, tuple[str, ...]]:
    directory = find_runs(path)[0]
    run = read_run(directory)
    loader = training_loader(run, read_loader_record(directory))
    course = course_of(run, loader)
    if len(course) < LEAST_BATCHES:
        raise InputError(
            f"{directory} has {len(course)} steps that count, {LEAST_BATCHES} are needed: record "
            "more of them"
        )
    return run, course, () if loader is None else loader.gaps


def _check_batches(run: RunRecord, probe: RunRecord, path: Path) -> None:
    sizes = [
        None if one.manifest.loader is None else one.manifest.loader.batch_size
        for one in (run, probe)
    ]
    if None not in sizes and sizes[0] != sizes[1]:
        raise InputError(
            f"{path} has batches of {sizes[1]}, the run itself of {sizes[0]}: give a probe that "
            "differs from it in loader workers or threads alone"
        )


def _checked(question: Question, course: Course) -> Question:
    """The question, by the name that the run knows.

    Raises:
        InputError: the run has nothing of that name, or the amount makes no sense.
    """
    amount = question.amount
    if question.change is Change.PART and not 0 < amount <= 1:
        raise InputError(f"a share of {amount:g} cannot go: give more than 0 and at most 1")
    if question.change is Change.BATCH and not 0 < amount < math.inf:
        raise InputError(f"a batch {amount:g} times as large makes no sense: give more than 0")
    least = _LEAST.get(question.change)
    if least is not None and not (amount >= least and amount == round(amount)):
        raise InputError(
            f"{question.change.value} of {amount:g} make no sense: give a whole number from {least}"
        )
    if question.change is Change.TRY and question.name not in FIXES:
        raise InputError(f"unknown fix {question.name!r}: use one of {', '.join(FIXES)}")
    if question.change is not Change.PART:
        return question
    known = {name.casefold(): name for part in course.parts for name in part.names}
    known |= {name.casefold(): stage.value for stage in STAGES for name in _names(stage)}
    name = known.get(question.name.strip().casefold())
    if name is None:
        usual = [part.names[0] for part in course.parts]
        told = dict.fromkeys((*(stage.value for stage in STAGES), *usual))
        raise InputError(
            f"the run has no stage, transform or part called {question.name!r}: use one of "
            f"{', '.join(told)}"
        )
    return replace(question, name=name)


def _names(stage: Stage) -> tuple[str, str]:
    return stage.value, stage.label
