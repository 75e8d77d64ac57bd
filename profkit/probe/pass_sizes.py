"""How many steps each traced pass looks at."""

SAMPLE_HZ = 100
"""Stack samples a second."""
_WARMUP = 3
_SAMPLED_S = 3.0
_LINES_S = 1.5
_REFERENCE_S = 2.0
"""Of steps as they are with workers: without them the loop makes the batches itself."""


def warmup_steps(workers: int, prefetch: int) -> int:
    """Steps until loader workers no longer live on a lead won before."""
    return _WARMUP + 3 * workers * prefetch


def traced_steps(step_ns: float, workers: int) -> int:
    """Steps to trace with torch.profiler.

    A long step has its operators in it thousands of times; of a short one, a few say little.
    """
    return 5 if step_ns > 15e6 and not workers else 20


def sampled_steps(step_ns: float) -> int:
    """Steps to sample the stacks of."""
    return _fitting(_SAMPLED_S, step_ns, least=20, most=1500)


def timed_line_steps(step_ns: float) -> int:
    """Steps to time the lines of."""
    return _fitting(_LINES_S, step_ns, least=5, most=200)


def reference_steps(step_ns: float) -> int:
    """Steps to time without loader workers."""
    return _fitting(_REFERENCE_S, step_ns, least=20, most=400)


def _fitting(seconds: float, step_ns: float, *, least: int, most: int) -> int:
    return max(least, min(most, round(seconds * 1e9 / max(1.0, step_ns))))
