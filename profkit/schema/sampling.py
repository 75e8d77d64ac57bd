"""Which steps of a loop of any length are kept: by their number alone."""

import numpy as np

from .steps import Int64Array


def stride(ordinal: Int64Array, an_octave: int) -> Int64Array:
    """How many steps one that is kept stands for; kept are those that it divides.

    Nothing is drawn and the length need not be known, so every process keeps the same steps,
    and what is kept of a short loop is the beginning of what is kept of a long one.

    Args:
        ordinal: (n,) numbers of steps, from 0.
        an_octave: how many to keep between 2^k and 2^(k+1), a power of 2; all of the first
            2 × `an_octave` are kept.

    Returns:
        (n,) int64, powers of 2.
    """
    # The exponent of a float is exact where a logarithm is rounded.
    octave = np.frexp(np.maximum(ordinal, 1).astype(np.float64))[1].astype(np.int64) - 1
    strides: Int64Array = np.left_shift(
        np.int64(1), np.maximum(octave - (an_octave.bit_length() - 1), 0)
    )
    return strides
