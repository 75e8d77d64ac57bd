"""Where the windows of stack samples lie: one file each, as its sampler wrote it."""

import re
from pathlib import Path

from ..schema.samples import SampleWindow

SAMPLES = "samples"
"""Directory below the run directory; also what the manifest calls the probe."""
_NAME = re.compile(r"window-(\d+)\.([a-z-]+)\.(\d+)\.([0-9a-f]+)\.txt")


def window_name(number: int, source: str, native_id: int, ident: int) -> str:
    """Name of a window's file: it tells the training thread, so that a killed run tells it too."""
    return f"window-{number}.{source}.{native_id}.{ident:x}.txt"


def read_windows(run: Path) -> tuple[SampleWindow, ...]:
    """The windows of a run, in order; none where none were taken. What is damaged is left out."""
    found = []
    for path in (run / SAMPLES).glob("window-*.txt"):
        if name := _NAME.fullmatch(path.name):
            try:
                text = path.read_text("utf-8", "replace")
            except OSError:
                continue
            window = SampleWindow(name[2], int(name[3]), int(name[4], 16), text)
            found.append((int(name[1]), path.name, window))
    return tuple(window for _, _, window in sorted(found, key=lambda one: one[:2]))
