"""What a run is asked about changes unless somebody asks otherwise."""

from ..schema.prediction import Change, Question
from ..schema.stage import STAGES, Stage
from .changes import FIXES
from .course import Course

LEAST_SHARE = 0.03
"""Of what a batch costs: smaller parts are asked for only by name."""
MOST_PARTS = 5


def usual_questions(course: Course, cores: int) -> tuple[Question, ...]:
    """What suits a run: its stages, the largest parts of a batch's cost, the loader's knobs."""
    seen = [stage for i, stage in enumerate(STAGES) if course.stages_ns[:, i].any()]
    has_data = bool(course.batches.making.any())
    # Only of a loader that was looked into is it known that there is one.
    found = [Question(Change.MEMORY)] if course.parts else []
    found += [Question(Change.PART, Stage.DATALOADER.value)] if has_data else []
    parts = [part.names[0] for part in course.parts[:MOST_PARTS] if part.share >= LEAST_SHARE]
    found += [Question(Change.PART, name) for name in dict.fromkeys(parts)]
    found += [Question(Change.PART, stage.value) for stage in seen if stage is not Stage.OTHER]
    found += [Question(Change.PART, Stage.OTHER.value)] if Stage.OTHER in seen else []
    if has_data:
        counts = dict.fromkeys((0, 1, 2, cores // 2, cores))
        counts.pop(course.workers or 0, None)
        found += [Question(Change.WORKERS, amount=count) for count in sorted(counts)]
        if course.workers:
            found.append(Question(Change.PREFETCH, amount=2 * course.prefetch))
        found.append(Question(Change.BATCH, amount=2))
    return (*found, *(Question(Change.TRY, fix) for fix in FIXES))
