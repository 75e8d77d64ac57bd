"""Programs that are run twice, by `python` and by profkit: both must look the same from outside."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PYTHON = sys.executable

DRIVER = """
import os, queue, sys
from profkit.scripts.as_main import Target, run_as_main

def at_end(ending):
    with open(os.environ["ENDINGS"], "a") as file:
        print(ending.words, ending.exit_code, hasattr(queue, "Queue"), file=file)
    exec(os.environ.get("AT_END", ""))

arguments = sys.argv[1:]
kind = "module" if arguments[0] == "-m" else "script"
name, *rest = arguments[kind == "module":]
run_as_main(Target(kind, name, tuple(rest)), at_end=at_end)
"""
"""As `profkit run`: has loaded modules of the standard library before the program does."""


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


class Programs:
    """Runs programs in a directory, alone and as profkit runs them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._endings = directory.parent / f"{directory.name}-endings.txt"

    def write(self, name: str, source: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    @property
    def endings(self) -> list[str]:
        """What `at_end` was told, a line a call."""
        return self._endings.read_text().splitlines() if self._endings.exists() else []

    def python(self, *arguments: str, **options: object) -> Ended:
        return self._run([PYTHON, *arguments], **options)

    def profkit(
        self, *arguments: str, driver: tuple[str, ...] = ("-c", DRIVER), **options: object
    ) -> Ended:
        self._endings.unlink(missing_ok=True)
        return self._run([PYTHON, *driver, *arguments], **options)

    def both(self, *arguments: str, **options: object) -> Ended:
        """Run it both ways; what is seen from outside is the same, and is returned."""
        alone = self.python(*arguments, **options)
        assert self.profkit(*arguments, **options) == alone
        return alone

    def _run(
        self,
        command: list[str],
        *,
        stdin: str = "",
        merged: bool = False,
        interrupted: bool = False,
        environment: dict[str, str] | None = None,
    ) -> Ended:
        """Run a command; `interrupted` sends Ctrl-C once it has printed its first line."""
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(PROJECT),
                "ENDINGS": str(self._endings),
                **(environment or {}),
            },
        )
        first = ""
        if interrupted:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
        try:
            stdout, stderr = process.communicate(stdin, timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"it hangs; so far:\n{first}{stdout}\n{stderr}") from None
        return Ended(process.returncode, first + stdout, stderr or "")
