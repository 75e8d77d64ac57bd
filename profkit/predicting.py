"""A run directory asked what its step would take after a change."""

from collections.abc import Sequence
from pathlib import Path

from .analyze.course import Course, course_of
from .analyze.training_loader import training_loader
from .analyze.usual_questions import usual_questions
from .analyze.what_if import FIXES, LEAST_BATCHES, predict
from .errors import InputError
from .schema.prediction import Change, Predictions, Question
from .schema.record import RunRecord
from .schema.stage import STAGES
from .store.loader_record import read_loader_record
from .store.records import read_run
from .store.run_directory import find_runs


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
        InputError: too few steps to judge by.
        RunError: it is no run, is damaged, or comes from a newer profkit.
    """
    run, course = _read(path)
    cores = run.manifest.environment.hardware.usable_cores
    asked = tuple(questions) or usual_questions(course, cores)
    _check_names(asked, course)
    return predict(run.manifest.name, course, cores, asked, [_read(one)[1] for one in probes])


def _read(path: Path) -> tuple[RunRecord, Course]:
    directory = find_runs(path)[0]
    run = read_run(directory)
    course = course_of(run, training_loader(run, read_loader_record(directory)))
    if len(course) < LEAST_BATCHES:
        raise InputError(
            f"{directory} has {len(course)} steps that count, {LEAST_BATCHES} are needed: record "
            "more of them"
        )
    return run, course


def _check_names(questions: Sequence[Question], course: Course) -> None:
    """Raise where something is asked about that the run does not have."""
    known = [part.name or part.kind.value for part in course.parts]
    stages = [stage.value for stage in STAGES]
    for question in questions:
        name = question.name
        labels = [stage.label for stage in STAGES]
        if question.change is Change.PART and name not in (*known, *stages, *labels):
            raise InputError(
                f"the run has no stage, transform or part called {name!r}: use one of "
                f"{', '.join((*stages, *known))}"
            )
        if question.change is Change.TRY and name not in FIXES:
            raise InputError(f"unknown fix {name!r}: use one of {', '.join(FIXES)}")
