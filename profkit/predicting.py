"""A run directory asked what its step would take after a change."""

from collections.abc import Sequence
from pathlib import Path

from .analyze.course import Course, course_of
from .analyze.what_if import FIXES, LEAST_BATCHES, Machine, predict
from .errors import InputError
from .schema.prediction import Change, Predictions, Question
from .schema.stage import STAGES, Stage
from .store.loader_record import read_loader_record
from .store.records import read_run
from .store.run_directory import find_runs

LEAST_SHARE = 0.03
"""Of what a batch costs: smaller parts are asked for only by name."""
MOST_PARTS = 5


def predict_run(path: Path, questions: Sequence[Question] = ()) -> Predictions:
    """What a run says about changes.

    Args:
        path: a run directory, or one that holds some: then the first of them.
        questions: those that suit the run unless given.

    Raises:
        InputError: too few steps to judge by.
        RunError: it is no run, is damaged, or comes from a newer profkit.
    """
    directory = find_runs(path)[0]
    run = read_run(directory)
    course = course_of(run, read_loader_record(directory))
    if len(course) < LEAST_BATCHES:
        raise InputError(
            f"{directory} has {len(course)} steps that count, {LEAST_BATCHES} are needed: record "
            "more of them"
        )
    environment = run.manifest.environment
    machine = Machine(environment.hardware.usable_cores, environment.intra_op_threads)
    asked = tuple(questions) or usual_questions(course, machine)
    return predict(run.manifest.name, course, machine, asked)


def usual_questions(course: Course, machine: Machine) -> tuple[Question, ...]:
    """What suits a run: its stages, the largest parts of a batch's cost, the loader's knobs."""
    seen = [stage for i, stage in enumerate(STAGES) if course.stages_ns[:, i].any()]
    has_data = bool(course.batches.making.any())
    found = [Question(Change.MEMORY)] if has_data else []
    found += [Question(Change.PART, Stage.DATALOADER.value)] if has_data else []
    found += [
        Question(Change.PART, part.name or part.kind.value)
        for part in course.parts[:MOST_PARTS]
        if part.share >= LEAST_SHARE
    ]
    found += [Question(Change.PART, stage.value) for stage in seen if stage is not Stage.OTHER]
    found += [Question(Change.PART, Stage.OTHER.value)] if Stage.OTHER in seen else []
    if has_data:
        most = max(1, machine.cores)
        counts = dict.fromkeys((0, 1, 2, most // 2, most))
        counts.pop(course.workers or 0, None)
        found += [Question(Change.WORKERS, amount=count) for count in sorted(counts)]
        if course.workers:
            found.append(Question(Change.PREFETCH, amount=2 * course.prefetch))
        found.append(Question(Change.BATCH, amount=2))
    return (*found, *(Question(Change.TRY, fix) for fix in FIXES))
