"""What a rank leaves for the analysis of many: a bounded sample of its training steps.

It is written once, when the rank's run ends, so that whoever looks at a thousand ranks never
reads their whole streams. A rank that was killed has none: then it is made from its stream.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import RunError
from ..schema.ranks import RankSummary
from ..schema.sampling import stride
from ..schema.steps import Flag, Int64Array, StepTable
from .names import STEPS, SUMMARY
from .run_directory import write_file
from .streams import STEP_SCHEMA, column, numbers, read_batches, step_columns, steps_from

STEPS_AN_OCTAVE = 64
"""All of the first 128, then 64 an octave: a million steps leave 960 rows, 100 million 1,386."""
_COUNT = b"training_steps"
_SCHEMA = pa.schema([("ordinal", pa.int64()), *STEP_SCHEMA])


def summarize(steps: StepTable) -> RankSummary:
    """The sample of a rank's training steps, from all of its steps."""
    rows, ordinal, count = _sampled(steps.flags, 0)
    return RankSummary(ordinal, stride(ordinal, STEPS_AN_OCTAVE), steps.select(rows), count)


def write_summary(directory: Path, steps: StepTable) -> None:
    """Write the sample of a rank's training steps beside its stream.

    Args:
        directory: the rank's run directory.
        steps: all of its steps.

    Raises:
        OutputError: it cannot be written.
    """
    save_summary(directory, summarize(steps))


def summarize_run(directory: Path) -> None:
    """Write the summary of a run that ends, from its stream; holds one batch in memory at a time.

    Raises:
        OutputError: it cannot be written.
        RunError: the stream is damaged.
    """
    save_summary(directory, sample_stream(directory, []))


def read_summary(directory: Path) -> RankSummary | None:
    """The summary of a rank's run; None where it left none.

    Raises:
        RunError: it is damaged, or not profkit's.
    """
    path = directory / SUMMARY
    gaps: list[str] = []
    table = read_batches(path, _SCHEMA, gaps)
    if gaps:  # written whole or not at all
        raise RunError(f"{path} is damaged: {gaps[0]}")
    if table is None:
        return None
    try:
        with pa.memory_map(str(path)) as source:
            count = int(pa.ipc.open_stream(source).schema.metadata[_COUNT])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: it does not say how many steps there were") from error
    ordinal = numbers(table, "ordinal", -1)[0]
    if bool((np.diff(ordinal, prepend=-1) <= 0).any()):
        raise RunError(f"{path} is damaged: its steps are not in order")
    steps = steps_from(table, path)
    return RankSummary(ordinal, stride(ordinal, STEPS_AN_OCTAVE), steps, count)


def sample_stream(directory: Path, gaps: list[str]) -> RankSummary:
    """The summary of a run from its stream, which may be long and cut short.

    Args:
        directory: the rank's run directory.
        gaps: what was cut short is named here.

    Raises:
        RunError: the stream is damaged, or not profkit's.
    """
    path = directory / STEPS
    table = read_batches(path, STEP_SCHEMA, gaps)
    kept, ordinals, count = [], [], 0
    for batch in [] if table is None else table.to_batches():
        steps = steps_from(pa.Table.from_batches([batch]), path)
        rows, ordinal, count = _sampled(steps.flags, count)
        kept.append(steps.select(rows))
        ordinals.append(ordinal)
    found = np.concatenate(ordinals) if ordinals else np.zeros(0, np.int64)
    return RankSummary(found, stride(found, STEPS_AN_OCTAVE), StepTable.concatenate(kept), count)


def save_summary(directory: Path, summary: RankSummary) -> None:
    """Write a summary that is made already.

    Raises:
        OutputError: it cannot be written.
    """
    schema = _SCHEMA.with_metadata({_COUNT: str(summary.count).encode()})
    columns = [column(summary.ordinal), *step_columns(summary.steps)]
    batch = pa.record_batch(columns, schema=schema)
    whole = schema.serialize().to_pybytes() + batch.serialize().to_pybytes()
    write_file(directory / SUMMARY, whole)


def _sampled(flags: Int64Array, before: int) -> tuple[Int64Array, Int64Array, int]:
    """Rows of the sampled training steps, their ordinals, and how many there are by now."""
    training = np.flatnonzero((flags & int(Flag.EVALUATION)) == 0)
    ordinal = before + np.arange(training.size)
    kept = ordinal % stride(ordinal, STEPS_AN_OCTAVE) == 0
    return training[kept], ordinal[kept], before + int(training.size)
