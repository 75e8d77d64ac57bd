"""What the waits for a core say: how much of the loop's own work was waiting for one."""

import numpy as np

from ..schema.estimate import Estimate
from ..schema.run import RunManifest
from .statistics import share_of_sums

_MOST = 0.999
"""A share above it has no use, and its growth no end."""


def core_wait_share(manifest: RunManifest) -> Estimate | None:
    """Part of the time from batch to end of step without a core; None where nobody looked."""
    seen = manifest.core_waits
    if seen is None or not seen.spans_ns:
        return None
    waits, spans = (np.array(values, np.float64) for values in (seen.waits_ns, seen.spans_ns))
    return share_of_sums(waits, spans)


def growth_by_waits(share: Estimate) -> Estimate:
    """How many times longer the work took than it would with a core whenever it wanted one."""

    def growth(part: float) -> float:
        return 1 / (1 - min(max(part, 0.0), _MOST))

    return Estimate(
        growth(share.value),
        None if share.low is None else growth(share.low),
        None if share.high is None else growth(share.high),
        share.blocks,
    )
