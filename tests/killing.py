"""Has programs killed at random moments: `test_kills` starts it, and it says as JSON when."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch._dynamo  # noqa: F401 # what the first optimizer imports

from forking import prepare, start

COUNT, AT_ONCE, SEED, LONGEST_S = 50, 2, 20261122, 2.4


def main(script: str) -> None:
    prepare()
    draw = random.Random(SEED)
    killed, running = {}, {}
    waiting = [(number, draw.uniform(0, LONGEST_S)) for number in range(COUNT)]
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, life_s = waiting.pop()
            place = Path(str(number))
            place.mkdir()
            mode = "loader" if number % 3 == 0 else "plain"
            pid = start(place, ["--warmup", "0", "--out", "run", script, mode])
            running[number] = (pid, time.monotonic() + life_s)
        number = min(running, key=lambda one: running[one][1])
        pid, due_s = running.pop(number)
        while not Path(f"{number}/run/run.json").exists():  # what it means to be observed
            time.sleep(0.005)
        time.sleep(max(0.0, due_s - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        at_ns = time.monotonic_ns()
        killed[number] = {"at_ns": at_ns, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
    print(json.dumps(killed))


if __name__ == "__main__":
    main(sys.argv[1])
