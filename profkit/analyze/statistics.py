"""The one place for statistics: blocks, shares, paired ratios and their intervals.

The unit of inference is a block of steps, never a step: neighbouring steps share the
machine's mood. Two process instances of identical code differ as well; what one process
shows holds for another one only with that difference in the standard error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ..schema.decision import Outcome
from ..schema.findings import Estimate, Summary
from ..schema.steps import Int64Array

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
TRIM = 0.2
"""Part cut from each end of the block ratios. Source: FACTS of the gate's design; Wilcox,
Introduction to Robust Estimation, recommends 20 %."""
LOW_QUANTILE = 0.1
"""Of the step times of a short block: what stands for its typical step. Source: FACTS of the gate's
design: what a busy machine adds to a step is never negative, so that low quantiles vary least."""
BETWEEN_PROCESS_LOG_SD = 0.0135
"""Standard deviation of the log-ratio of two process instances that run identical code.
Source: measured, one pair; three pairs give .0078 (reports/overhead.md names the machine)."""
BETWEEN_PROCESS_DEGREES = 12
"""Degrees of freedom that this prior counts for beside what a run itself shows."""
OUTLIER_SD = 3.5
DRIFT_LEVEL = 0.01
DRIFT_POINTS = 200
"""Moments at which a trend is looked at, at most: a slope between any two of n values takes n² of
memory, 54 GB for the rounds of an hour; and long runs resemble each other less than neighbours."""
RESAMPLES = 2000
DRAWN_AT_ONCE = 1 << 20
"""Numbers that a resampling holds at a time, so that its memory does not grow with the blocks."""
MIN_BLOCKS = 4
"""Fewer blocks than that carry no interval: a resample of three values has ten outcomes."""
DECISION_ERROR = 0.01
"""Chance that a value which equals its limit is called above it, or below, over all looks."""


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


def share_of_sums(parts: Values, wholes: Values, *, beyond: bool = False) -> Estimate:
    """Ratio of two sums over blocks, with an interval from resampling the blocks.

    Args:
        parts, wholes: (b,) one pair a block, in the order of time; wholes are positive.
        beyond: whether the interval is to hold for what comes after these blocks, too: those that
            resemble their neighbours then count for less. What it describes else is the time that
            they cover, all of whose phases are part of the truth.
    Source: ratio estimator, bootstrapped by block; the interval is widened for few blocks by
        the t quantile and sqrt(b / (b - 1)), after Hesterberg, What Teachers Should Know
        About the Bootstrap (2015), section 3.2; `beyond` as in `independent_part`. The wider of
        its percentile and its t interval is taken at either end, within what single blocks show:
        with rare long waits in a few blocks the former alone covered 92.8 % where 95 % were meant
        (1,200 simulated loops).
    """
    count = int(parts.size)
    value = float(parts.sum() / wholes.sum())
    if count < MIN_BLOCKS:
        return Estimate(value, None, None, count)
    ratios = _resampled(parts, wholes)
    part = independent_part(parts - value * wholes) if beyond else 1.0
    degrees = max(1.0, part * count - 1)
    wide = float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))
    wide *= math.sqrt(count / (count - 1) / part)
    level = special.ndtr(wide)
    low, high = np.quantile(ratios, (1 - level, level))
    reach, each = wide * float(ratios.std()), parts / wholes
    low = min(low, max(value - reach, each.min()))
    high = max(high, min(value + reach, each.max()))
    return Estimate(value, float(min(low, value)), float(max(high, value)), count)


def _resampled(parts: Values, wholes: Values) -> Values:
    """(`RESAMPLES`,) ratios of the sums over as many blocks, drawn again with replacement."""
    count = int(parts.size)
    draw, found = np.random.default_rng(0), []
    rows = max(1, DRAWN_AT_ONCE // count)
    for done in range(0, RESAMPLES, rows):
        picks = draw.integers(count, size=(min(rows, RESAMPLES - done), count))
        found.append(parts[picks].sum(axis=1) / wholes[picks].sum(axis=1))
    ratios: Values = np.concatenate(found)
    return ratios


def widen_share_between_processes(share: Estimate, processes: int) -> Estimate:
    """A share measured in some process instances, with the spread between instances added.

    Args:
        share: with its interval.
        processes: how many there were.
    Source: see `share_excess`; two independent errors add as squares.
    """
    if share.low is None or share.high is None:
        return share
    error = BETWEEN_PROCESS_LOG_SD / math.sqrt(processes) * share.value * (1 - share.value)
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * error
    return Estimate(
        share.value,
        max(0.0, share.value - math.hypot(share.value - share.low, reach)),
        min(1.0, share.value + math.hypot(share.high - share.value, reach)),
        share.blocks,
    )


def mean_of_blocks(totals: Values, counts: Values, *, beyond: bool = False) -> Estimate:
    """Mean duration of a step over blocks, with its interval, in the unit of `totals`.

    Args:
        totals: (b,) summed duration of each block.
        counts: (b,) steps in each block.
        beyond: see `share_of_sums`.
    """
    return share_of_sums(totals, counts, beyond=beyond)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The logarithm of a ratio, with what is needed to hold it against a limit.

    Attributes:
        center: natural logarithm of the ratio.
        error: its standard error, the spread between process instances included.
        degrees: of freedom of that error.
        blocks: pairs of blocks that it rests on.
    """

    center: float
    error: float
    degrees: float
    blocks: int

    @property
    def estimate(self) -> Estimate:
        """The ratio, with its 95 % interval."""
        reach = float(special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2)) * self.error
        low, high = math.exp(self.center - reach), math.exp(self.center + reach)
        return Estimate(math.exp(self.center), low, high, self.blocks)

    def beside(self, limit: float, error_rate: float) -> Outcome:
        """On which side of a limit the ratio lies.

        Args:
            limit: a ratio, above 0.
            error_rate: chance, 0 to 1, to call it above (or below) where it equals the limit.
        """
        return _side(self.center - math.log(limit), self.error, self.degrees, error_rate)

    @property
    def p_value(self) -> float:
        """Chance of a ratio at least as far from 1, either way, where the truth is 1."""
        return 2 * float(special.stdtr(self.degrees, -abs(self.center) / self.error))


def log_ratio(logs: Values, instances: Int64Array | None = None) -> LogRatio | None:
    """The ratio that pairs of blocks show; None of fewer than `MIN_BLOCKS` pairs.

    Args:
        logs: (b,) log-ratio of each pair of blocks, which ran one after the other.
        instances: (b,) which pair of process instances each comes from; one unless given.

    Returns:
        Their trimmed mean; its error holds for other process instances as well.
    Source: trimmed mean and its standard error: Tukey and McLaughlin (1963), as in
        scipy.stats.mstats.trimmed_stde; degrees of freedom: Welch (1947) and Satterthwaite (1946).
    """
    count = int(logs.size)
    if count < MIN_BLOCKS:
        return None
    center, within = _trimmed(logs)
    kept = count - 2 * int(TRIM * count)
    pairs = [_trimmed(logs[rows]) for rows in _rows_of(instances, count) if rows.size >= MIN_BLOCKS]
    between = _between_instances(pairs, instances)
    return LogRatio(center, *_joined((within, kept - 1), between), count)


def throughput_ratio(
    numerators: Values, denominators: Values, instances: Int64Array | None = None
) -> LogRatio | None:
    """The ratio of two sums over pairs of blocks: rare slow blocks count in full.

    Args:
        numerators, denominators: (b,) what as many steps of either took in each pair of blocks.
        instances: see `log_ratio`.

    Returns:
        None of fewer than `MIN_BLOCKS` pairs.
    Source: ratio estimator with its linearized variance: Cochran, Sampling Techniques (1977),
        section 6.4; process instances and degrees of freedom: as `log_ratio`.
    """
    count = int(numerators.size)
    if count < MIN_BLOCKS:
        return None
    center, within = _linearized(numerators, denominators)
    pairs = [
        _linearized(numerators[rows], denominators[rows])
        for rows in _rows_of(instances, count)
        if rows.size >= MIN_BLOCKS and numerators[rows].any() and denominators[rows].any()
    ]
    between = _between_instances(pairs, instances)
    return LogRatio(center, *_joined((within, count - 1), between), count)


@dataclass(frozen=True, slots=True)
class LogTime:
    """The logarithm of what one process instance took for something, as its blocks show it.

    Attributes:
        center: natural logarithm of the time.
        error: its standard error, of the blocks alone.
        degrees: of freedom of that error.
        blocks: that it rests on.
    """

    center: float
    error: float
    degrees: float
    blocks: int


def log_mean_time(totals: Values, counts: Values, *, beyond: bool = True) -> LogTime | None:
    """Time over steps (or samples): rare slow steps count in full.

    Args:
        totals: (b,) time of each block; their sum is positive.
        counts: (b,) steps or samples in each block, positive.
        beyond: whether the error is to hold for what comes after these blocks, too; see
            `share_of_sums`.

    Returns:
        None of fewer than `MIN_BLOCKS` blocks.
    Source: as `throughput_ratio`: ratio estimator with its linearized variance; see
        `independent_part` for blocks that resemble their neighbours.
    """
    blocks = int(totals.size)
    if blocks < MIN_BLOCKS:
        return None
    excess = totals / totals.mean() - counts / counts.mean()
    independent = blocks * (independent_part(excess) if beyond else 1.0)
    error = float(excess.std(ddof=1)) / math.sqrt(independent)
    center = math.log(totals.sum() / counts.sum())
    return LogTime(center, error, max(1.0, independent - 1), blocks)


def log_typical_time(values: Values) -> LogTime | None:
    """Trimmed mean of the logs of the blocks' values; None of fewer than `MIN_BLOCKS`.

    Args:
        values: (b,) positive, e.g. the median step of each block.
    Source: as `log_ratio`; see `independent_part` for blocks that resemble their neighbours.
    """
    blocks = int(values.size)
    if blocks < MIN_BLOCKS:
        return None
    logs = np.log(values)
    center, error = _trimmed(logs)
    part = independent_part(logs)
    kept = part * (blocks - 2 * int(TRIM * blocks))
    return LogTime(center, error / math.sqrt(part), max(1.0, kept - 1), blocks)


def independent_part(values: Values) -> float:
    """As how many independent values those of a series count, over how many they are; 0 to 1.

    What slows a machine down for seconds slows neighbouring blocks alike: their number promises
    more than they tell.

    Args:
        values: (n,) in the order of time, n at least 3.

    Returns:
        1 where none resembles its neighbours; never so little that fewer than two are left.
    Source: of an autoregressive series: Bayley and Hammersley, The "Effective" Number of
        Independent Observations in an Autocorrelated Time Series (1946); the bias of the
        correlation between neighbours is taken out after Kendall (1954).
    """
    count = int(values.size)
    apart = values - values.mean()
    squares = float((apart**2).sum())
    if squares == 0:
        return 1.0
    seen = float((apart[:-1] * apart[1:]).sum()) / squares
    correlation = max(0.0, seen + (1 + 4 * seen) / count)
    return max(2 / count, (1 - correlation) / (1 + correlation))


def unpaired_ratio(numerator: LogTime, denominator: LogTime) -> LogRatio:
    """The ratio of two times, each of one process instance, that did not take turns.

    The spread between instances is in its error; the machine's own change between the two is not.

    Source: degrees of freedom: Welch (1947) and Satterthwaite (1946).
    """
    error, degrees = _joined(
        (numerator.error, numerator.degrees),
        (denominator.error, denominator.degrees),
        (BETWEEN_PROCESS_LOG_SD, BETWEEN_PROCESS_DEGREES),
    )
    center = numerator.center - denominator.center
    return LogRatio(center, error, degrees, min(numerator.blocks, denominator.blocks))


def ratio_of_means(
    numerators: Values, denominators: Values, *, beyond: bool = True
) -> LogRatio | None:
    """The ratio of two means of blocks that did not take turns, as of two measurements.

    Args:
        numerators: (b,) e.g. mean step time of each block.
        denominators: (c,) likewise.
        beyond: see `log_mean_time`.

    Returns:
        None where either has fewer than `MIN_BLOCKS` blocks, or its mean is not positive.
    """
    if not (numerators.sum() > 0 and denominators.sum() > 0):
        return None
    over, under = (
        log_mean_time(values, np.ones(values.size), beyond=beyond)
        for values in (numerators, denominators)
    )
    return None if over is None or under is None else unpaired_ratio(over, under)


def adjust_for_number(p_values: Values) -> Values:
    """p-values of several tests, raised so that the chance of any false finding is bounded.

    Args:
        p_values: (m,), of tests that may depend on each other in any way.

    Returns:
        (m,) to hold against a level as if each were the only one, at most 1.
    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    count = int(p_values.size)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(count, 0, -1))
    adjusted: Values = np.empty(count)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _trimmed(logs: Values) -> tuple[float, float]:
    """Trimmed mean and its standard error."""
    from scipy.stats import mstats  # 0.4 s, which the end of every observed run would pay

    center, error = (
        of(logs, limits=(TRIM, TRIM)) for of in (mstats.trimmed_mean, mstats.trimmed_stde)
    )
    return float(center), float(error)


def _linearized(numerators: Values, denominators: Values) -> tuple[float, float]:
    """Logarithm of the ratio of sums and its standard error."""
    excess = numerators / numerators.mean() - denominators / denominators.mean()
    error = float(excess.std(ddof=1)) / math.sqrt(numerators.size)
    return math.log(numerators.sum() / denominators.sum()), error


def _rows_of(instances: Int64Array | None, count: int) -> list[Int64Array]:
    """The rows of each pair of instances; all of `count` where there is one."""
    if instances is None:
        return [np.arange(count)]
    return [np.flatnonzero(instances == one) for one in np.unique(instances)]


def _between_instances(
    pairs: Sequence[tuple[float, float]], instances: Int64Array | None
) -> tuple[float, float]:
    """Standard error that comes from which process instances there were, and its degrees.

    What was known before, moderated by how far the pairs of instances in hand lie apart.

    Args:
        pairs: logarithm of the ratio that each pair shows, and its standard error; those that
            show too little left out.
        instances: (b,) see `log_ratio`.
    Source: Smyth, Linear Models and Empirical Bayes Methods (2004), section 4: the variance is
        the mean of prior and sample, weighted by their degrees of freedom.
    """
    count = 1 if instances is None else np.unique(instances).size
    variance, degrees = BETWEEN_PROCESS_LOG_SD**2, float(BETWEEN_PROCESS_DEGREES)
    if len(pairs) == count > 1:
        centers, errors = np.array(pairs).T
        seen = max(0.0, float(centers.var(ddof=1)) - float((errors**2).mean()))
        variance = (degrees * variance + (count - 1) * seen) / (degrees + count - 1)
        degrees += count - 1
    return math.sqrt(variance / count), degrees


def _side(center: float, error: float, degrees: float, error_rate: float) -> Outcome:
    """On which side of 0 a value lies that has such an error; what is not known lies on none."""
    reach = float(special.stdtrit(degrees, 1 - error_rate)) * error
    if not abs(center) > reach:  # NaN as well
        return Outcome.INCONCLUSIVE
    return Outcome.ABOVE if center > 0 else Outcome.BELOW


def _joined(*parts: tuple[float, float]) -> tuple[float, float]:
    """A standard error made of independent ones, and its degrees of freedom.

    Source: Satterthwaite (1946).
    """
    total = sum(error**2 for error, _ in parts)
    weight = sum(error**4 / degrees for error, degrees in parts)
    return math.sqrt(total), total**2 / weight


def paired_ratio(numerators: Values, denominators: Values, processes: int = 1) -> Estimate:
    """How many times larger the first of each pair of blocks is.

    Args:
        numerators, denominators: (b,) positive, e.g. mean step time of two blocks that ran
            one after the other.
        processes: process instances that the pairs come from, in turn.

    Returns:
        As `log_ratio`; without an interval of too few pairs.
    """
    logs = np.log(numerators / denominators)
    found = log_ratio(logs, np.arange(logs.size) % processes)
    if found is None:
        return Estimate(float(np.exp(np.median(logs))), None, None, int(logs.size))
    return found.estimate


def warm_up_length(values: Values) -> int:
    """How many of the first values belong to a warm-up: those before the first usual one.

    Args:
        values: (n,) in the order of time, e.g. of blocks.

    Returns:
        At most half of them; usual is what is no outlier (see `outliers`) beside the other half.
        MSER (White, 1997), tried first, cuts a third off where a quarter is warm-up, and follows
        the noise in a steady series.
    """
    if values.size < 2 * MIN_BLOCKS:
        return 0
    later = values[values.size // 2 :]
    usual = np.abs(values - np.median(later)) <= OUTLIER_SD * robust_sd(later)
    usual[values.size // 2 :] = True
    return int(np.argmax(usual))


def outliers(values: Values) -> Int64Array:
    """Rows of the values that lie far from the bulk.

    Source: modified z-score above 3.5: Iglewicz and Hoaglin, How to Detect and Handle Outliers
        (1993).
    """
    spread = robust_sd(values)
    if spread == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.abs(values - np.median(values)) > OUTLIER_SD * spread)


def drift(values: Values) -> float | None:
    """How much higher the last value is than the first, by the trend; None without one.

    Args:
        values: (n,) in the order of time; for logarithms the result is a log-ratio.
    Source: slope: Theil (1950) and Sen (1968); that there is one: Kendall's rank correlation
        with time at the 1 % level (Mann, 1945); of more than `DRIFT_POINTS` values, both of the
        medians of as many equal runs of them.
    """
    if values.size < 2 * MIN_BLOCKS:
        return None
    from scipy import stats

    cut = split_evenly(values.size, DRIFT_POINTS)
    points = np.array([np.median(values[low:high]) for low, high in cut])
    moments = np.array([(low + high - 1) / 2 for low, high in cut])
    # Of values that are all the same the p-value is NaN.
    if not stats.kendalltau(moments, points).pvalue <= DRIFT_LEVEL:
        return None
    return float(stats.theilslopes(points, moments).slope) * (int(values.size) - 1)


def typical(values: Values) -> float:
    """The value of a typical block: trimmed mean of the logs, as `paired_ratio` takes it."""
    logs = np.log(values)
    return math.exp(_trimmed(logs)[0] if logs.size >= MIN_BLOCKS else float(np.median(logs)))


def widen_between_processes(mean: Estimate) -> Estimate:
    """A mean of one process instance, with the spread between instances in its interval."""
    if mean.low is None or mean.high is None:
        return mean
    # Half of the variance of a pair's log-ratio falls on each of the two.
    reach = math.exp(special.ndtri((1 + CONFIDENCE) / 2) * BETWEEN_PROCESS_LOG_SD / math.sqrt(2))
    return Estimate(mean.value, mean.low / reach, mean.high * reach, mean.blocks)


def split_evenly(length: int, pieces: int) -> Sequence[tuple[int, int]]:
    """Half-open bounds of at most `pieces` runs of nearly equal length that cover `length`."""
    pieces = max(1, min(pieces, length))
    bounds = [round(i * length / pieces) for i in range(pieces + 1)]
    return list(zip(bounds, bounds[1:], strict=False))


# Looks and sides -------------------------------------------------------------------------------


def error_of_look(looks: int, total: float = DECISION_ERROR) -> float:
    """Chance of a wrong decision that each of several looks at growing data may have.

    Args:
        looks: the most that there will be, at least 1.
        total: chance over all of them, 0 to 1.
    Source: Bonferroni's inequality: it holds however the looks depend on each other.
    """
    return total / looks


@dataclass(frozen=True, slots=True)
class Excess:
    """How far a share lies above what it is held against, and how sure that is.

    Attributes:
        center: the difference, as a part of the step.
        error: its standard error, the spread between process instances included.
        degrees: of freedom of that error.
        blocks: that it rests on.
    """

    center: float
    error: float
    degrees: float
    blocks: int

    def side(self, error_rate: float) -> Outcome:
        """On which side of nothing it lies; `error_rate` as in `LogRatio.beside`."""
        return _side(self.center, self.error, self.degrees, error_rate)


def share_excess(parts: Values, wholes: Values, limit: float, processes: int = 1) -> Excess | None:
    """How far a share lies above a limit; None of fewer than `MIN_BLOCKS` blocks.

    Args:
        parts, wholes: (b,) one pair a block, in the order of time; wholes are positive.
        limit: 0 to 1.
        processes: instances that the blocks come from.
    Source: ratio estimator with its linearized variance: Cochran, Sampling Techniques (1977),
        section 6.4; see `independent_part` for blocks that resemble their neighbours. That two
        instances of identical code differ moves a share `s` by `s * (1 - s)` times their log-ratio.
    """
    share = float(parts.sum() / wholes.sum())
    return _excess(parts, wholes, limit, share * (1 - share), processes)


def dominance(parts: Values, others: Values, wholes: Values) -> Excess | None:
    """How much larger one share is than another; None of fewer than `MIN_BLOCKS` blocks.

    Args:
        parts, others, wholes: (b,) one triple a block, in the order of time.
    Source: as `share_excess`, of the difference, block by block: two stages that a slow moment
        meets alike move together, which two separate intervals would not know.
    """
    both = float((parts.sum() + others.sum()) / wholes.sum())
    return _excess(parts - others, wholes, 0.0, both / 2, 1)


def _excess(
    parts: Values, wholes: Values, limit: float, leverage: float, processes: int
) -> Excess | None:
    count = int(wholes.size)
    if count < MIN_BLOCKS:
        return None
    share = float(parts.sum() / wholes.sum())
    # What is left of a block once its length is taken out, which may drift.
    rest = parts - share * wholes
    independent = count * independent_part(rest)
    within = float(rest.std(ddof=1)) / math.sqrt(independent) / float(wholes.mean())
    own = max(1.0, independent - 1)
    between = leverage * BETWEEN_PROCESS_LOG_SD / math.sqrt(processes)
    if within == between == 0:  # a stage that holds all of every block, or nothing of any
        return Excess(share - limit, 0.0, own, count)
    error, degrees = _joined((within, own), (between, BETWEEN_PROCESS_DEGREES))
    return Excess(share - limit, error, degrees, count)
