"""The one place for statistics: blocks, shares, paired ratios and their intervals.

The unit of inference is a block of steps, never a step: neighbouring steps share the
machine's mood. Two process instances of identical code differ as well; what one process
shows holds for another one only with that difference in the standard error.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from ..schema.findings import Estimate, Summary
from ..schema.steps import Int64Array

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
TRIM = 0.2
"""Part cut from each end of the block ratios. Source: FACTS of the gate's design; Wilcox,
Introduction to Robust Estimation, recommends 20 %."""
BETWEEN_PROCESS_LOG_SD = 0.0135
"""Standard deviation of the log-ratio of two process instances that run identical code.
Source: measured, one pair; three pairs give .0078 (reports/overhead.md names the machine)."""
RESAMPLES = 2000
MIN_BLOCKS = 4
"""Fewer blocks than that carry no interval: a resample of three values has ten outcomes."""


def summarize(durations_ns: Int64Array) -> Summary | None:
    """Count, median, quartile distance, 95 % quantile and total, in ns; None of nothing."""
    if durations_ns.size == 0:
        return None
    low, median, high, p95 = np.quantile(durations_ns, (0.25, 0.5, 0.75, 0.95))
    return Summary(
        count=int(durations_ns.size),
        median=float(median),
        iqr=float(high - low),
        p95=float(p95),
        total=int(durations_ns.sum()),
    )


def robust_sd(values: Values) -> float:
    """Standard deviation of what the bulk of the values would be drawn from.

    Source: median absolute deviation over the normal distribution's third quartile; up to half
    of the values may be anything.
    """
    return float(np.median(np.abs(values - np.median(values)))) / float(special.ndtri(0.75))


def weighted_median(values: Values, weights: Values) -> Values:
    """(c,) the median of each column, in which a value counts as often as its weight says.

    Args:
        values: (n, c), n at least 1.
        weights: (n,), positive.
    """
    order = np.argsort(values, axis=0)
    below = np.cumsum(weights[order], axis=0)
    half = below[-1] / 2
    ranked = np.take_along_axis(values, order, axis=0)
    low, high = (below >= half).argmax(axis=0), (below > half).argmax(axis=0)
    columns = np.arange(values.shape[1])
    median: Values = (ranked[low, columns] + ranked[high, columns]) / 2
    return median


def share_of_sums(parts: Values, wholes: Values) -> Estimate:
    """Ratio of two sums over blocks, with an interval from resampling the blocks.

    Args:
        parts, wholes: (b,) one pair a block; wholes are positive.
    Source: ratio estimator, bootstrapped by block; the interval is widened for few blocks by
        the t quantile and sqrt(b / (b - 1)), after Hesterberg, What Teachers Should Know
        About the Bootstrap (2015), section 3.2.
    """
    count = int(parts.size)
    value = float(parts.sum() / wholes.sum())
    if count < MIN_BLOCKS:
        return Estimate(value, None, None, count)
    picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    ratios = parts[picks].sum(axis=1) / wholes[picks].sum(axis=1)
    level = special.ndtr(_t_quantile(count - 1) * math.sqrt(count / (count - 1)))
    low, high = np.quantile(ratios, (1 - level, level))
    return Estimate(value, float(min(low, value)), float(max(high, value)), count)


def mean_of_blocks(totals: Values, counts: Values) -> Estimate:
    """Mean duration of a step over blocks, with its interval, in the unit of `totals`.

    Args:
        totals: (b,) summed duration of each block.
        counts: (b,) steps in each block.
    """
    return share_of_sums(totals, counts)


def paired_ratio(numerators: Values, denominators: Values, processes: int = 1) -> Estimate:
    """How many times larger the first of each pair of blocks is.

    Args:
        numerators, denominators: (b,) positive, e.g. mean step time of two blocks that ran
            one after the other.
        processes: process instances that the pairs come from.

    Returns:
        Trimmed mean of the log-ratios, as a ratio; its interval holds for another process
        instance too, since the between-process spread stands in its standard error.
    Source: trimmed mean and its standard error: Tukey and McLaughlin (1963), as in
        scipy.stats.mstats.trimmed_stde; the rest: the measured design of the gate.
    """
    logs = np.log(numerators / denominators)
    count = int(logs.size)
    if count < MIN_BLOCKS:
        return Estimate(float(np.exp(np.median(logs))), None, None, count)
    from scipy.stats import mstats  # 0.4 s, which the end of every observed run would pay

    center = float(mstats.trimmed_mean(logs, limits=(TRIM, TRIM)))
    error = float(mstats.trimmed_stde(logs, limits=(TRIM, TRIM)))
    error = math.hypot(error, BETWEEN_PROCESS_LOG_SD / math.sqrt(processes))
    kept = count - 2 * int(TRIM * count)
    reach = _t_quantile(kept - 1) * error
    return Estimate(math.exp(center), math.exp(center - reach), math.exp(center + reach), count)


def typical(values: Values) -> float:
    """The value of a typical block: trimmed mean of the logs, as `paired_ratio` takes it."""
    logs = np.log(values)
    if logs.size < MIN_BLOCKS:
        return float(np.exp(np.median(logs)))
    from scipy.stats import mstats

    return float(np.exp(mstats.trimmed_mean(logs, limits=(TRIM, TRIM))))


def widen_between_processes(mean: Estimate) -> Estimate:
    """A mean of one process instance, with the spread between instances in its interval."""
    if mean.low is None or mean.high is None:
        return mean
    # Half of the variance of a pair's log-ratio falls on each of the two.
    reach = math.exp(special.ndtri((1 + CONFIDENCE) / 2) * BETWEEN_PROCESS_LOG_SD / math.sqrt(2))
    return Estimate(mean.value, mean.low / reach, mean.high * reach, mean.blocks)


def _t_quantile(degrees: int) -> float:
    return float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))


def split_evenly(length: int, pieces: int) -> Sequence[tuple[int, int]]:
    """Half-open bounds of at most `pieces` runs of nearly equal length that cover `length`."""
    pieces = max(1, min(pieces, length))
    bounds = [round(i * length / pieces) for i in range(pieces + 1)]
    return list(zip(bounds, bounds[1:], strict=False))
