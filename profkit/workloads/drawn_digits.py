"""Draws a set of handwriting-like digits where MNIST is not to be had.

A digit is a few strokes (lines and arcs), warped, slanted, turned, scaled and shifted by chance,
then traced by a pen of chance width. The pen leaves a Gaussian blot at points along the strokes,
and a two-dimensional Gaussian is a product of two one-dimensional ones, so that an image is one
small matrix product: (28, points) @ (points, 28).

The blots are whole numbers below 2**8 from a table, so every sum of products stays below 2**24
and is exact in float32, in whatever order a BLAS adds: a seed gives the same images everywhere
(as long as numpy keeps the streams of its generators).
"""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profkit.errors import InputError

#: Raise it with any change that alters an image, so that cached sets are drawn anew.
VERSION = 1
SIDE = 28

_POINTS = 48  # per digit; at the longest one 1.2 pixels apart, closer than the thinnest pen
_CHUNK = 1000  # images at once: about 50 MB of scratch memory
_STEPS = 16  # positions are rounded to 1/16 pixel
_REACH = 8 * _STEPS  # a blot ends 8 pixels from its centre, beyond 5 standard deviations
_WIDTHS = np.linspace(0.75, 1.35, 16)  # standard deviation of the pen, pixels
_BLOT = 255

_Floats = NDArray[np.float64]
_Bytes = NDArray[np.uint8]


def draw(count: int, seed: int, split: Literal["train", "test"] = "train") -> tuple[_Bytes, _Bytes]:
    """Draw digits, the same ones for the same seed and split.

    A shorter set is the beginning of a longer one. The two splits are independent streams. The
    global random state is neither read nor changed.

    Args:
        count: number of images, 0 or more.
        seed: 0 or more.
        split: which of the two streams.

    Returns:
        Images, uint8 (count, 28, 28), 0 is paper and 255 ink; labels, uint8 (count,), 0 to 9.

    Raises:
        InputError: a negative count or seed, or an unknown split.
    """
    if count < 0 or seed < 0:
        raise InputError(f"cannot draw {count} digits with seed {seed}: both must be 0 or more")
    if split not in ("train", "test"):
        raise InputError(f"no split {split!r}: use 'train' or 'test'")
    images = np.empty((count, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.uint8)
    for index, start in enumerate(range(0, count, _CHUNK)):
        # One stream a chunk, and every chunk drawn whole: the count cannot shift what follows.
        key = (("train", "test").index(split), index)
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        chunk_images, chunk_labels = _draw_chunk(generator)
        stop = min(start + _CHUNK, count)
        images[start:stop] = chunk_images[: stop - start]
        labels[start:stop] = chunk_labels[: stop - start]
    return images, labels


def _draw_chunk(generator: np.random.Generator) -> tuple[_Bytes, _Bytes]:
    labels = generator.integers(0, 10, _CHUNK)
    # Each digit has two ways to be written.
    forms = 2 * labels + generator.integers(0, 2, _CHUNK)
    points, magnification = _pose(_FORMS[forms], generator)
    widths = generator.integers(0, len(_WIDTHS), _CHUNK)

    rows = _blots(points[:, :, 1], widths)
    columns = _blots(points[:, :, 0], widths)
    sums = np.matmul(rows.transpose(0, 2, 1), columns)

    # Blots d apart along a line add up to a ridge of sigma * sqrt(2 pi) / d, whatever the digit.
    apart = _LENGTHS[forms] * magnification / _POINTS
    ridge = _WIDTHS[widths] * math.sqrt(2 * math.pi) / apart
    pressure = generator.uniform(1.5, 2.6, _CHUNK)
    scale = (255 * pressure / (ridge * _BLOT**2)).astype(np.float32)
    # The paper takes no thin ink: MNIST's strokes, too, end within a pixel or two.
    ink = np.clip(sums * scale[:, None, None] - np.float32(50), 0, 255)
    # Grain in the ink alone: MNIST's paper is clean.
    grain = generator.integers(224, 257, ink.shape, dtype=np.uint16).astype(np.float32)
    ink *= grain * np.float32(1 / 256)
    return ink.astype(np.uint8), labels.astype(np.uint8)


def _pose(points: _Floats, generator: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Move unit glyphs into the image, each in a way of its own.

    Args:
        points: (n, points, 2) x and y, about -1 to 1.
        generator: where chance comes from.

    Returns:
        The points in pixels and, (n,), the mean magnification in pixels a unit.
    """
    count = len(points)
    x, y = points[:, :, 0], points[:, :, 1]
    amplitude = generator.normal(0.0, 0.08, (4, count, 1))
    phase = generator.uniform(0.0, 2 * math.pi, (4, count, 1))
    x, y = (
        x + amplitude[0] * np.sin(2.5 * y + phase[0]) + amplitude[1] * np.sin(4.0 * x + phase[1]),
        y + amplitude[2] * np.sin(3.5 * x + phase[2]) + amplitude[3] * np.sin(2.5 * y + phase[3]),
    )
    x = x - generator.normal(0.1, 0.25, (count, 1)) * y
    x = x * generator.uniform(6.5, 9.5, (count, 1))
    height = generator.uniform(7.2, 9.2, (count, 1))
    y = y * height
    angle = generator.normal(0.0, math.radians(8.0), (count, 1))
    shift = generator.normal((SIDE - 1) / 2, 0.9, (2, count, 1))
    turned_x = np.cos(angle) * x - np.sin(angle) * y + shift[0]
    turned_y = np.sin(angle) * x + np.cos(angle) * y + shift[1]
    return np.stack((turned_x, turned_y), axis=2), height[:, 0]


def _blots(positions: _Floats, widths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give each point's Gaussian profile along one axis.

    Args:
        positions: (n, points) pixels.
        widths: (n,) index of the pen.

    Returns:
        (n, points, 28), whole numbers from 0 to 255.
    """
    pixels = np.arange(SIDE, dtype=np.int32) * _STEPS
    centres = np.rint(positions * _STEPS).astype(np.int32)
    distance = np.abs(centres[:, :, None] - pixels)
    np.minimum(distance, _REACH, out=distance)
    distance += (widths.astype(np.int32) * (_REACH + 1))[:, None, None]
    blots: NDArray[np.float32] = _PROFILES.ravel()[distance]
    return blots


def _line(x0: float, y0: float, x1: float, y1: float) -> _Floats:
    part = np.linspace(0.0, 1.0, 200)[:, None]
    return np.array([x0, y0]) * (1 - part) + np.array([x1, y1]) * part


def _arc(x: float, y: float, width: float, height: float, start: float, stop: float) -> _Floats:
    """Trace an ellipse about (x, y), angles in degrees, clockwise from the right: y points down."""
    angle = np.radians(np.linspace(start, stop, 200))
    return np.stack((x + width * np.cos(angle), y + height * np.sin(angle)), axis=1)


def _spread(strokes: Iterable[_Floats]) -> tuple[_Floats, float]:
    """Spread the pen's points evenly over strokes, none on the way from one to the next."""
    strokes = list(strokes)
    starts = np.concatenate([stroke[:-1] for stroke in strokes])
    ways = np.concatenate([np.diff(stroke, axis=0) for stroke in strokes])
    lengths = np.hypot(ways[:, 0], ways[:, 1])
    ends = np.cumsum(lengths)
    places = (np.arange(_POINTS) + 0.5) / _POINTS * ends[-1]
    piece = np.searchsorted(ends, places)
    part = 1 - (ends[piece] - places) / lengths[piece]
    return starts[piece] + ways[piece] * part[:, None], float(ends[-1])


_GLYPHS = (
    (_arc(0, 0, 0.65, 1, -90, 270),),
    (_arc(0, 0, 0.45, 0.95, -60, 290),),
    (_line(0, -1, 0, 1),),
    (_line(-0.35, -0.55, 0.05, -1), _line(0.05, -1, 0.05, 1)),
    (_arc(0, -0.45, 0.6, 0.55, 180, 400), _line(0.46, -0.1, -0.6, 1), _line(-0.6, 1, 0.65, 0.95)),
    (
        _arc(-0.05, -0.5, 0.5, 0.5, 200, 430),
        _line(0.12, -0.03, -0.5, 0.75),
        _arc(-0.45, 0.85, 0.2, 0.15, 180, 400),
        _line(-0.3, 0.93, 0.7, 0.85),
    ),
    (_arc(-0.05, -0.5, 0.55, 0.5, 200, 450), _arc(-0.05, 0.5, 0.62, 0.5, -90, 150)),
    (
        _line(-0.5, -0.95, 0.5, -0.95),
        _line(0.5, -0.95, -0.1, -0.15),
        _arc(-0.1, 0.42, 0.65, 0.57, -90, 140),
    ),
    (_line(0.3, -1, -0.6, 0.3), _line(-0.6, 0.3, 0.65, 0.3), _line(0.3, -1, 0.3, 1)),
    (_line(-0.5, -0.95, -0.55, 0.05), _line(-0.55, 0.05, 0.5, 0), _line(0.5, -1, 0.4, 1)),
    (
        _line(0.55, -1, -0.4, -1),
        _line(-0.4, -1, -0.45, -0.1),
        _arc(-0.05, 0.4, 0.6, 0.6, -130, 140),
    ),
    (
        _line(0.65, -0.9, -0.2, -0.9),
        _line(-0.2, -0.9, -0.4, -0.05),
        _arc(-0.15, 0.45, 0.5, 0.55, -110, 120),
    ),
    (_arc(0.5, 0.4, 1.05, 1.4, 270, 180), _arc(0, 0.5, 0.55, 0.5, 180, 540)),
    (_line(0.2, -1, -0.45, 0.3), _arc(0, 0.55, 0.48, 0.42, 200, 560)),
    (_line(-0.6, -0.95, 0.6, -0.95), _line(0.6, -0.95, -0.15, 1)),
    (
        _line(-0.55, -0.9, 0.5, -0.95),
        _line(0.5, -0.95, 0, 1),
        _line(-0.2, 0.05, 0.5, 0),
    ),
    (_arc(0, -0.5, 0.48, 0.48, 90, 450), _arc(0, 0.5, 0.6, 0.5, -90, 270)),
    (_arc(0.05, -0.55, 0.38, 0.42, 90, 450), _arc(-0.02, 0.42, 0.45, 0.55, -90, 270)),
    (_arc(0, -0.45, 0.5, 0.5, 0, 360), _line(0.5, -0.45, 0.4, 1)),
    (_arc(0, -0.5, 0.45, 0.45, 0, 360), _arc(-0.25, -0.5, 0.7, 1.45, 0, 80)),
)
_SPREAD = [_spread(strokes) for strokes in _GLYPHS]
_FORMS = np.stack([points for points, _ in _SPREAD])
_LENGTHS = np.array([length for _, length in _SPREAD])
_PROFILES = np.rint(
    _BLOT * np.exp(-((np.arange(_REACH + 1) / _STEPS) ** 2) / (2 * _WIDTHS[:, None] ** 2))
).astype(np.float32)
