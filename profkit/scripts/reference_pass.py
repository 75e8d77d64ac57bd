"""A short pass over a program without loader workers: it tells contention from slow loading."""

from pathlib import Path

from ..errors import ProfkitError
from ..probe import pass_sizes
from ..schema.fix import ALL_LOADERS, FixOrder, Knob
from ..schema.run import COMPLETED, ProbeFacts
from ..store.names import MANIFEST, REFERENCE, STEPS
from ..store.run_directory import write_file
from .fix_order import fix_options

REFERENCE_PASS = "reference"
"""What the pass is called beside those of the probes."""
NO_WORKERS = FixOrder({Knob.WORKERS.value: 0}, loader=ALL_LOADERS)


def reference_options(out: Path, step_ns: float, warmup: int) -> list[str]:
    """Options of `profkit run` for the pass.

    Args:
        out: run directory of its own.
        step_ns: median step of the light pass.
        warmup: steps that are left out, as in the light pass.
    """
    steps = pass_sizes.reference_steps(step_ns)
    options = ["--quiet", "--stop", "--out", str(out), "--steps", str(steps)]
    return [*options, "--warmup", str(warmup), *fix_options(NO_WORKERS)]


def keep_reference(out: Path, run: Path) -> ProbeFacts | None:
    """What the pass saw; its steps become the reference of the run.

    Args:
        out: run directory of the pass.
        run: that of the light pass.

    Returns:
        None where it came to nothing, and what the program said last should tell why.
    """
    import numpy as np

    from ..analyze.breakdown import active_rows
    from ..analyze.statistics import MIN_BLOCKS
    from ..store.records import read_run

    if not (out / MANIFEST).is_file():
        return None
    try:
        record = read_run(out)
        rows, loader = active_rows(record.steps), record.manifest.loader
        if rows.size < MIN_BLOCKS:
            is_short = record.manifest.ended == COMPLETED
            return not_made(f"only {rows.size} steps to time") if is_short else None
        if loader is not None and loader.num_workers:
            return not_made(f"the loader has {loader.num_workers} of them all the same")
        write_file(run / REFERENCE, (out / STEPS).read_bytes())
    except (ProfkitError, OSError) as error:
        return not_made(str(error))
    step_ns = int(np.median(record.steps.step_ns[rows]))
    return ProbeFacts(
        REFERENCE_PASS, int(rows.size), step_ns=step_ns, detail="without loader workers"
    )


def not_made(reason: str) -> ProbeFacts:
    """That there is no reference, and why."""
    return ProbeFacts(REFERENCE_PASS, 0, gap=f"pass without loader workers: {reason}")
