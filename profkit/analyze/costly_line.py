"""The line of a stage on which a loop was seen most often."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from ..schema.stage import Stage
from .places import Origin, origin
from .stack_rows import Frame
from .stacks import STAGE_FRAME, is_plumbing, is_project

FETCH = "fetch_in_process"
_RUNNERS = frozenset({"run_steps", FETCH})
"""Functions of profkit that call what belongs to the loop, or what loader workers would call."""

Samples = Mapping[tuple[Stage | None, tuple[tuple[str, str, int], ...]], int]


def costliest_frame(samples: Samples, stage: Stage) -> tuple[Frame, Frame | None, int, int] | None:
    """Where a stage was seen most often.

    A sample counts for the innermost line of the user's own code; where all that runs is a
    library's, for the library's innermost one.

    Args:
        samples: how often each stack was seen, outermost frame first, and in which stage.
        stage: looked at.

    Returns:
        The frame, the user's own one that most often led to it (None without any), its samples,
        and all of the stage; None without a sample.
    """
    counts: Counter[Frame] = Counter()
    callers: defaultdict[Frame, Counter[Frame]] = defaultdict(Counter)
    for (told, stack), count in samples.items():
        frames = _run([Frame(*frame) for frame in stack])
        if len(frames) > 1 and _stage_of(frames, told) is stage:
            at = _line(frames)
            counts[frames[at]] += count
            led = [one for one in frames[1:at] if is_project(one)]
            callers[frames[at]].update({led[-1]: count} if led else {})
    if not counts:
        return None
    frame, count = max(counts.items(), key=lambda one: (one[1], one[0].file, -one[0].line))
    led_by = callers[frame].most_common(1)
    return frame, led_by[0][0] if led_by else None, count, sum(counts.values())


def _run(frames: list[Frame]) -> list[Frame]:
    """The loop's runner, and what it called."""
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        if frame.short_name in _RUNNERS and origin(frame.file) is Origin.PROFKIT:
            return frames[index:]
    return []


def _stage_of(frames: list[Frame], told: Stage | None) -> Stage | None:
    if frames[0].short_name == FETCH:
        return Stage.DATALOADER
    # A copy is known as one only once it is over, but it leaves a frame.
    transfer = STAGE_FRAME + Stage.TRANSFER.value
    if told is Stage.OTHER and any(frame.short_name == transfer for frame in frames):
        return Stage.TRANSFER
    return told


def _line(frames: list[Frame]) -> int:
    """Index of the innermost frame that a reader would look at, past the runner's."""
    inside = range(len(frames) - 1, 0, -1)
    own = next((i for i in inside if is_project(frames[i])), None)
    if own is None:
        own = next((i for i in inside if not _is_hidden(frames[i])), len(frames) - 1)
    return own


def _is_hidden(frame: Frame) -> bool:
    hidden = (Origin.PROFKIT, Origin.GENERATED)
    return is_plumbing(frame) or origin(frame.file) in hidden
