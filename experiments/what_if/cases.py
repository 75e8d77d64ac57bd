"""Programs, and changes to them that profkit is asked about."""

from dataclasses import dataclass

from profkit import Change, Question

Options = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A change: as profkit is asked about it, and as the program is told to make it.

    Attributes:
        words: for the report.
        question: to profkit.
        options: of the program.
        counts: whether it is one of the pairs; else it explains another one.
    """

    words: str
    question: Question
    options: Options
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """A program.

    Attributes:
        name: for the report.
        options: of the program as it is.
        steps: of each run.
        probes: short runs that predictions may use; two with other numbers of workers at most.
        asked: what is asked.
    """

    name: str
    options: Options
    steps: int
    probes: tuple[Options, ...]
    asked: tuple[Asked, ...]


def workers(count: int) -> Asked:
    question = Question(Change.WORKERS, amount=count)
    return Asked(f"{count} workers", question, ("--workers", str(count)))


def threads(count: int) -> Asked:
    question = Question(Change.THREADS, amount=count)
    return Asked(f"{count} threads", question, ("--threads", str(count)))


def prefetch(count: int) -> Asked:
    question = Question(Change.PREFETCH, amount=count)
    return Asked(f"prefetch {count}", question, ("--prefetch", str(count)))


def batch(times: int, size: int) -> Asked:
    question = Question(Change.BATCH, amount=times)
    return Asked(f"batch of {times * size}", question, ("--batch", str(times * size)))


def less(name: str, share: float, *options: str) -> Asked:
    words = f"without {name}" if share == 1 else f"{name} {100 * share:.0f} % shorter"
    return Asked(words, Question(Change.PART, name, share), options)


MEMORY = Asked("data in memory", Question(Change.MEMORY), ("--memory", "--workers", "0"))
KEPT = Asked(
    "data in memory, freed memory kept",
    Question(Change.MEMORY),
    ("--memory", "--workers", "0", "--keep-freed"),
    counts=False,
)
"""Without a loader's allocations in between, malloc may give a large model's memory back to the
system in each step, and get it back page by page; see `Knob.HEAP`."""
NO_NORMALIZE = less("Normalize", 1, "--no-normalize")
_SPIN = ("--data", "spin", "--fetch-ms", "0.5", "--blur-ms", "0.5", "--forward-ms", "4")
_SLEEP = ("--data", "sleep", "--fetch-ms", "1", "--blur-ms", "0.5", "--forward-ms", "4")
_DRAWN = ("--data", "sleep", "--fetch-ms", "0.5", "--sigma", "1", "--forward-ms", "6")
_LATE = ("--data", "sleep", "--fetch-ms", "0.5", "--late-ms", "100", "--forward-ms", "6")
_ONE_TWO: tuple[Options, ...] = (("--workers", "1"), ("--workers", "2"))

CASES = (
    Case(
        "FastMLP on MNIST, no workers",
        ("--model", "fastmlp", "--batch", "512"),
        60,
        (*_ONE_TWO, ("--threads", "2")),
        (
            MEMORY,
            NO_NORMALIZE,
            workers(1),
            workers(2),
            workers(3),
            threads(2),
            batch(2, 512),
        ),
    ),
    Case(
        "CNN on MNIST, no workers",
        ("--model", "cnn", "--batch", "64"),
        100,
        (*_ONE_TWO, ("--threads", "2")),
        (MEMORY, KEPT, NO_NORMALIZE, workers(1), workers(2), workers(3), threads(2), batch(2, 64)),
    ),
    Case(
        "FastMLP on MNIST, 2 workers",
        ("--model", "fastmlp", "--batch", "512", "--workers", "2"),
        60,
        (("--workers", "0"), ("--workers", "1")),
        (MEMORY, NO_NORMALIZE, workers(0), workers(1), workers(3), prefetch(4)),
    ),
    Case(
        "making computes, no workers",
        _SPIN,
        100,
        _ONE_TWO,
        (
            MEMORY,
            less("Blur", 1, "--blur-ms", "0"),
            less("Blur", 0.5, "--blur-ms", "0.25"),
            less("forward", 0.5, "--forward-ms", "2"),
            workers(1),
            workers(2),
            workers(3),
            batch(2, 16),
        ),
    ),
    Case(
        "making computes, 2 workers",
        (*_SPIN, "--workers", "2"),
        100,
        (("--workers", "0"), ("--workers", "1")),
        (
            MEMORY,
            less("Blur", 1, "--blur-ms", "0"),
            workers(0),
            workers(1),
            workers(4),
            prefetch(4),
        ),
    ),
    Case(
        "the model computes, no workers",
        ("--data", "spin", "--fetch-ms", "0.25", "--forward-ms", "12"),
        100,
        _ONE_TWO,
        (MEMORY, less("forward", 0.5, "--forward-ms", "6"), workers(1), workers(2), workers(3)),
    ),
    Case(
        "making waits for files, 1 worker",
        (*_SLEEP, "--workers", "1"),
        100,
        (),
        (
            MEMORY,
            less("Blur", 1, "--blur-ms", "0"),
            workers(2),
            workers(4),
            workers(8),
            prefetch(4),
            batch(2, 16),
        ),
    ),
    Case(
        "batches differ, 2 workers",
        (*_DRAWN, "--workers", "2"),
        200,
        (),
        (
            MEMORY,
            less("fetch", 0.5, "--fetch-ms", "0.25"),
            workers(1),
            workers(3),
            workers(4),
            prefetch(1),
            prefetch(8),
        ),
    ),
    Case(
        "some samples are late, 2 workers",
        (*_LATE, "--workers", "2"),
        400,
        (),
        (MEMORY, workers(1), workers(4), prefetch(8), less("forward", 0.5, "--forward-ms", "3")),
    ),
)
