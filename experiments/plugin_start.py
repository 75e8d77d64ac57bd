"""What profkit's pytest plugin costs a session that uses none of it.

`python -m experiments.plugin_start` writes reports/plugin-start.md, in about two minutes. Nothing
else may run on the machine meanwhile.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy import stats

from .measured import head_of_here, save, spread

REPORT = Path("reports", "plugin-start.md")
PAIRS = 60
TARGET_MS = 20
TEST = "def test_nothing():\n    assert 1 + 1 == 2\n"
WITHOUT = ("-p", "no:profkit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    given = parser.parse_args()
    order = random.Random(0)
    taken: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "test_nothing.py").write_text(TEST)
        _session_ms(Path(scratch), ("--profkit-inconclusive", "warn"))  # fails without the plugin
        for _ in range(given.pairs + 1):
            turns = [True, False]
            order.shuffle(turns)
            for with_plugin in turns:
                options = () if with_plugin else WITHOUT
                taken[with_plugin].append(_session_ms(Path(scratch), options))
    # The first pair fills the caches of the file system.
    loaded, left_out = taken[True][1:], taken[False][1:]
    added = [a - b for a, b in zip(loaded, left_out, strict=True)]
    median = stats.quantile_test(added, q=0, p=0.5)
    interval = median.confidence_interval(0.95)
    save(
        given.output,
        [
            *head_of_here("What the pytest plugin costs", "python -m experiments.plugin_start"),
            f"A session of one empty test, with the plugin and with `{' '.join(WITHOUT)}`, in "
            "pairs of random order. Wall time of the process, median (quartiles).",
            "",
            "| session | n | ms |",
            "|---|---:|---:|",
            f"| with the plugin | {len(loaded)} | {spread(loaded, 4)} |",
            f"| without | {len(left_out)} | {spread(left_out, 4)} |",
            f"| difference of a pair | {len(added)} | {spread(added)} |",
            "",
            f"The median difference lies between {interval.low:.1f} and {interval.high:.1f} ms "
            f"(95 %, by order statistics); the target is {TARGET_MS} ms at most.",
            "",
        ],
    )


def _session_ms(folder: Path, options: tuple[str, ...]) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    taken_ms = (time.perf_counter() - began) * 1e3
    if done.returncode != 0:
        raise SystemExit(f"exit code {done.returncode} of {' '.join(command)}\n{done.stdout}")
    return taken_ms


if __name__ == "__main__":
    main()
