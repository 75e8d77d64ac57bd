"""Reads what was recorded of a run's loaders; see `store.batches`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from ..schema.loader import (
    Consumed,
    Detail,
    IteratorFacts,
    LoaderRecord,
    Produced,
    Table,
    WorkerBirth,
    WorkerGap,
    columns,
)
from .batches import CONSUMED, ITERATORS, loader_directory

Fact = TypeVar("Fact")


def read_loader_record(run: Path) -> LoaderRecord | None:
    """What a run directory holds about its loaders; None where that is nothing.

    What was cut short by a kill is read up to there; what is no file of profkit's is left out, and
    said.
    """
    directory = loader_directory(run)
    if not directory.is_dir():
        return None
    gaps: list[str] = []
    lines = _lines(directory.glob("details-*.jsonl"), gaps)
    births = _all(lines, "ready_ns", WorkerBirth, gaps)
    details = _all(lines, "parts", Detail, gaps)
    iterators = _all(_lines([directory / ITERATORS], gaps), "began_ns", IteratorFacts, gaps)
    if not iterators:
        return None
    gaps += dict.fromkeys(one.gap for one in _all(lines, "gap", WorkerGap, gaps))
    return LoaderRecord(
        iterators=tuple(iterators),
        births=tuple(births),
        produced=_rows(sorted(directory.glob("produced-*.rows")), Produced, gaps),
        consumed=_rows([directory / CONSUMED], Consumed, gaps),
        details=tuple(details),
        gaps=tuple(gaps),
    )


def _rows(paths: Iterable[Path], kind: type[Table], gaps: list[str]) -> Table:
    width = len(columns(kind))
    found = [np.zeros((0, width), np.int64)]
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                gaps.append(f"{path.name} cannot be read: {error.strerror or error}")
            continue
        whole = len(content) // (8 * width)
        found.append(np.frombuffer(content, "<i8", whole * width).reshape(whole, width))
    table = np.concatenate(found)
    return kind(*(np.ascontiguousarray(table[:, i]) for i in range(width)))


def _lines(paths: Iterable[Path], gaps: list[str]) -> list[bytes]:
    found: list[bytes] = []
    for path in sorted(paths):
        try:
            content = path.read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                gaps.append(f"{path.name} cannot be read: {error.strerror or error}")
            continue
        found += content.split(b"\n")[:-1]  # behind the last end of a line is half a one
    return found


def _all(lines: Iterable[bytes], key: str, kind: type[Fact], gaps: list[str]) -> list[Fact]:
    mark = f'"{key}"'.encode()
    found: list[Fact] = []
    for line in lines:
        if mark in line:
            try:
                found.append(msgspec.json.decode(line, type=kind))
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
                gaps.append(f"a line about {kind.__name__} is damaged and was left out")
    return found
