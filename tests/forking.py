"""Forks processes that go the way of `profkit run`: one imports torch for all of them.

As a program it runs what stands on its stdin as JSON, a list of command lines with the directory
to run each in, two at a time, and gives a list of their exit codes; what each says goes to
`stdout` and `stderr` in its directory.
"""

import json
import os
import sys
import warnings
from pathlib import Path

PROJECT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def prepare() -> None:
    """Import what takes long."""
    import torch

    import profkit.observation

    torch.set_num_threads(1)
    assert profkit.observation
    # Torch has threads where it forks.
    warnings.simplefilter("ignore", DeprecationWarning)


def start(directory: Path, arguments: list[str]) -> int:
    """Start `profkit run` with some arguments in a directory; gives the process's id."""
    from profkit import cli

    pid = os.fork()
    if pid:
        return pid
    os.chdir(directory)
    for name, stream in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    sys.argv = ["profkit", "run", *arguments]
    cli.main("profkit")  # ends the process by an exception that nobody here catches
    raise AssertionError


if __name__ == "__main__":
    prepare()
    orders = json.load(sys.stdin)
    codes: dict[int, int] = {}
    running: dict[int, int] = {}
    while len(codes) < len(orders):
        while len(running) < 2 and (number := len(codes) + len(running)) < len(orders):
            directory, arguments = orders[number]
            running[start(Path(directory), arguments)] = number
        pid, status = os.wait()
        codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
    print(json.dumps([codes[number] for number in range(len(orders))]))
