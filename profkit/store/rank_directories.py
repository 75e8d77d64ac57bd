"""The run directories of the ranks of one launch: found and read, whatever became of them."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError
from ..schema.ranks import RankRecord, RanksRecord, RankSummary
from .names import MANIFEST, SUMMARY
from .rank_summary import read_summary, sample_stream
from .run_directory import read_manifest

_NAME = re.compile(r"rank-(0|[1-9]\d{0,8})(?:-restart-([1-9]\d{0,8}))?")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class RankDirectory:
    """Where one rank wrote to, or one restart of it."""

    rank: int
    restart: int
    path: Path


def find_ranks(launch: Path) -> tuple[RankDirectory, ...]:
    """The ranks that `launch` holds, and all of their restarts, in order; empty without any."""
    found = []
    if launch.is_dir() and not (launch / MANIFEST).exists():
        for child in launch.iterdir():
            match = _NAME.fullmatch(child.name)
            if match is not None and child.is_dir():
                found.append(RankDirectory(int(match[1]), int(match[2] or 0), child))
    return tuple(sorted(found, key=lambda one: (one.rank, one.restart)))


def read_ranks(launch: Path) -> RanksRecord:
    """The latest restart of each rank of a launch; what cannot be read is named, not fatal.

    Raises:
        RunError: not a single one can be read.
    """
    found = find_ranks(launch)
    latest = {one.rank: one for one in found}
    earlier = [one for one in found if latest[one.rank] is not one]
    ranks: list[RankRecord] = []
    unreadable: dict[int, str] = {}
    gaps: list[str] = []
    for one in latest.values():
        try:
            ranks.append(_read_rank(one, gaps))
        except RunError as error:
            unreadable[one.rank] = str(error)
    if not ranks:
        first = next(iter(unreadable.values()), "it holds no rank")
        raise RunError(f"{launch}: no rank's run can be read: {first}")
    shown = [f"rank {rank} cannot be read: {reason}" for rank, reason in unreadable.items()]
    gaps = [*_first_few(shown, "ranks cannot be read"), *_first_few(gaps, "such cuts")]
    if earlier:
        names = [one.path.name for one in earlier]
        gaps.append(f"earlier starts, left aside: {', '.join(_first_few(names, 'others'))}")
    strangers = _of_another_launch(ranks)
    if strangers:
        names = _first_few([one.directory for one in strangers], "others")
        gaps.append(f"of an earlier launch, left aside: {', '.join(names)}")
        ranks = [one for one in ranks if one not in strangers]
    return RanksRecord(tuple(ranks), tuple(unreadable), tuple(gaps))


def _of_another_launch(ranks: list[RankRecord]) -> list[RankRecord]:
    """Ranks that the latest launch does not have: an earlier one with more of them left them."""
    newest = max(ranks, key=lambda one: one.manifest.started_at).manifest.rank
    if newest is None:
        return []
    return [
        one
        for one in ranks
        if one.manifest.rank is not None
        and one.manifest.rank.launch != newest.launch
        and one.rank >= newest.world_size
    ]


def _read_rank(found: RankDirectory, gaps: list[str]) -> RankRecord:
    manifest = read_manifest(found.path / MANIFEST)
    summary: RankSummary | None = None
    try:
        summary = read_summary(found.path)
    except RunError:
        gaps.append(f"rank {found.rank}: {SUMMARY} is damaged: read from its steps instead")
    if summary is None:
        cuts: list[str] = []
        summary = sample_stream(found.path, cuts)
        gaps += [f"rank {found.rank}: {cut}" for cut in cuts]
    return RankRecord(found.rank, found.restart, found.path.name, manifest, summary)


def _first_few(lines: list[str], rest: str) -> list[str]:
    """A thousand ranks may be damaged alike: the first few, and how many more there are."""
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"{more} more {rest}"]
