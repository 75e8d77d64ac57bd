"""What git ignores in a working tree, such as data: which of it a program's instances get, and how.

They need their data, and must write neither over each other's files nor over the user's. So what
is small is copied for each; what is large is linked, unless it looks like something they write.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..render.units import one_line
from ..scripts.workplace import (
    LIMIT_BYTES,
    LIMIT_FILES,
    copy_entry,
    directory_size,
    fill,
    is_left_out,
)

_CACHES = frozenset(
    {".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis", ".ipynb_checkpoints"}
    | {".tox", ".nox", ".eggs", ".coverage", ".DS_Store"}
)
_OUTPUTS = frozenset(
    {"out", "output", "outputs", "result", "results", "artifacts", "log", "logs", "saved"}
    | {"checkpoint", "checkpoints", "ckpt", "ckpts", "snapshots", "weights"}
    | {"wandb", "mlruns", "multirun", "lightning_logs", "tb_logs", "tensorboard"}
)
"""Names under which training programs write."""
_WRITTEN = (".pt", ".pth", ".ckpt", ".safetensors", ".log")
_COMPILED = (".so", ".pyd", ".dylib")
_NAMED = 5


@dataclass(frozen=True, slots=True)
class IgnoredPlan:
    """What becomes of each entry that is ignored; what stands in no list is a cache.

    Attributes:
        copied: each instance has its own.
        linked: all of them and the user have the same.
        left_out: large, and looks like something that the program writes.
    """

    copied: tuple[str, ...]
    linked: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def gaps(self) -> tuple[str, ...]:
        """Sentences: what is not each instance's own."""
        found = []
        if self.linked:
            found.append(
                f"{_names(self.linked)}: ignored by git and large, so all instances use the "
                "working tree's own, and write to it if they write there"
            )
        if self.left_out:
            found.append(
                f"{_names(self.left_out)}: ignored by git, large, and named like something that "
                "the program writes, so no instance has it; what it must read belongs elsewhere"
            )
        if any(name.endswith(_COMPILED) for name in self.copied):
            found.append("compiled extension modules are the working tree's in all versions")
        return tuple(found)


def plan_ignored(root: Path, names: Sequence[str]) -> IgnoredPlan:
    """Decide what becomes of each entry.

    Args:
        root: of the working tree.
        names: of entries that are ignored, none within another one.
    """
    copied, linked, left_out = [], [], []
    room_bytes, room_files = LIMIT_BYTES, LIMIT_FILES
    for name in names:
        path = root / name
        if path.name in _CACHES or path.suffix == ".pyc" or is_left_out(path):
            continue
        size = _size(path)
        if size is not None and size[0] <= room_bytes and size[1] <= room_files:
            room_bytes, room_files = room_bytes - size[0], room_files - size[1]
            copied.append(name)
        elif path.name.lower() in _OUTPUTS or path.suffix.lower() in _WRITTEN:
            left_out.append(name)
        else:
            linked.append(name)
    return IgnoredPlan(tuple(copied), tuple(linked), tuple(left_out))


def place_ignored(plan: IgnoredPlan, root: Path, copy: Path) -> None:
    """Copy and link what is ignored into a copy, where nothing stands in its place yet.

    Raises:
        OSError: there is no room for it.
    """
    for name in (*plan.copied, *plan.linked):
        source, target = root / name, copy / name
        if os.path.lexists(target):  # a revision in which it is no longer, or not yet, ignored
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):  # what is a directory now was a file
            continue
        if name in plan.linked:
            target.symlink_to(source)
        elif source.is_symlink() or not source.is_dir():
            copy_entry(source, target, root, copy)
        else:
            fill(source, root, copy)


def _size(path: Path) -> tuple[int, int] | None:
    if path.is_dir() and not path.is_symlink():
        return directory_size(path)
    try:
        return path.lstat().st_size, 1
    except OSError:
        return 0, 0


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 60) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
