"""Processes that want the cores now and then, as other jobs on a CI machine do."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_BURST_S = 1.5
SHORTEST_BURST_S = 0.2


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that spin in bursts, gone afterwards."""
    command = [sys.executable, "-m", "experiments.gate.neighbours"]
    processes = [subprocess.Popen([*command, str(seed)]) for seed in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def spin_in_bursts(seed: int) -> None:
    """Spin and rest in turns, each for 0.2 to 1.5 s, while the one that asked for it lives."""
    draw, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        end = time.monotonic() + draw.uniform(SHORTEST_BURST_S, LONGEST_BURST_S)
        while time.monotonic() < end:
            pass
        time.sleep(draw.uniform(SHORTEST_BURST_S, LONGEST_BURST_S))


if __name__ == "__main__":
    spin_in_bursts(int(sys.argv[1]))
