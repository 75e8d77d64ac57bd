"""Forks processes that each go the way of `profkit run`, and kills them: `test_kills` starts it.

One process imports torch for all of them. Says as JSON when each was killed.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
import torch._dynamo  # what the first optimizer imports: a second of each child's life

import profkit.observation  # noqa: F401
from profkit import cli

COUNT, AT_ONCE, SEED, LONGEST_S = 50, 2, 20261122, 2.4


def child(number: int, script: str) -> None:
    said = os.open(f"said-{number}", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    out = f"run-{number}"
    mode = "loader" if number % 3 == 0 else "plain"
    sys.argv = ["profkit", "run", "--warmup", "0", "--out", out, script, mode, f"log-{number}"]
    try:
        cli.main("profkit")
    finally:
        os._exit(99)


def main(script: str) -> None:
    torch.set_num_threads(1)
    draw = random.Random(SEED)
    killed, running = {}, {}
    waiting = [(number, draw.uniform(0, LONGEST_S)) for number in range(COUNT)]
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, life_s = waiting.pop()
            pid = os.fork()
            if pid == 0:
                child(number, script)
            running[number] = (pid, time.monotonic() + life_s)
        number = min(running, key=lambda one: running[one][1])
        pid, due_s = running.pop(number)
        while not Path(f"run-{number}", "run.json").exists():  # what it means to be observed
            time.sleep(0.005)
        time.sleep(max(0.0, due_s - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        at_ns = time.monotonic_ns()
        killed[number] = {"at_ns": at_ns, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
    print(json.dumps(killed))


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # that torch has threads where it forks
    main(sys.argv[1])
