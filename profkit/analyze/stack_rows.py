"""Reads py-spy's raw format: the stacks that were seen, and how often."""

import re
from dataclasses import dataclass

_BEGIN = re.compile(r'process \d{1,9}:"')
_BEGIN_BARE = re.compile(r"thread \([^)]*\)")
_RECORD = re.compile(
    r'(?:(process \d{1,9}:".*?");)?thread \(([^)]*)\)(?:: )?([^;]*)(?:;(.+))? (\d{1,15})', re.DOTALL
)
_RUNNER = "profkit/scripts/main_module.py"
"""What runs a user's program as `python` would."""
_PROCESS = re.compile(r'(?:^|";)process (\d{1,9}):"')
_FRAME = re.compile(r"(.+?) \((.+?)(?::(\d{1,9}))?\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack; `line` is 0 where it is not known."""

    function: str
    file: str
    line: int

    @property
    def short_name(self) -> str:
        """The last part of the qualified name, which Python 3.10 reports alone."""
        return self.function.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class StackRow:
    """Samples that saw the same stack.

    Attributes:
        processes: ids from the main process down to the one sampled; empty where only one was.
        thread: its name; empty where it has none.
        thread_id: its number: the system's, or Python's where that was not to be had.
        frames: outermost first; none while the interpreter starts.
        count: samples.
    """

    processes: tuple[int, ...]
    thread: str
    thread_id: int | None
    frames: tuple[Frame, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Stacks:
    """What a raw file holds; `foreign` counts records that are not py-spy's, and were skipped."""

    rows: tuple[StackRow, ...]
    foreign: int


def parse_stacks(text: str) -> Stacks:
    """The rows of py-spy's raw format, recorded with `--threads`.

    A record is `process 1:"command";thread (1): name;function (file:line);… count`, and begins
    with the thread where it was recorded without `--subprocesses`. Nothing in it is escaped, and
    a command may hold semicolons and line breaks, so a record ends where it is complete.
    """
    rows: list[StackRow] = []
    foreign = 0
    pending = ""
    begin = _BEGIN_BARE if _BEGIN_BARE.match(text.lstrip()) else _BEGIN
    for line in text.splitlines():
        if begin.match(line):
            foreign += bool(pending)
            pending = line
        elif pending:
            pending += "\n" + line
        else:
            foreign += bool(line.strip())
        if pending and (record := _RECORD.fullmatch(pending)):
            pending = ""
            frames = _parse_frames(record[4] or "")
            if frames or record[4] is None:
                processes = tuple(map(int, _PROCESS.findall(record[1] or "")))
                thread_id = _number(record[2])
                program = _of_program(frames)
                rows.append(StackRow(processes, record[3], thread_id, program, int(record[5])))
            else:
                foreign += 1
    return Stacks(tuple(rows), foreign + bool(pending))


def _number(text: str) -> int | None:
    try:
        return int(text, 0)  # 123, or 0x7B
    except ValueError:
        return None


def _of_program(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """What a program called, without the frames of profkit that run it."""
    for index in range(len(frames) - 1, -1, -1):
        if frames[index].file.replace("\\", "/").endswith(_RUNNER):
            return frames[index + 1 :] or frames
    return frames


def _parse_frames(text: str) -> tuple[Frame, ...]:
    if not text:
        return ()
    found = [_FRAME.fullmatch(part) for part in re.split(r"(?<=\));", text)]
    frames = tuple(Frame(part[1], part[2], int(part[3] or 0)) for part in found if part)
    return frames if len(frames) == len(found) else ()
