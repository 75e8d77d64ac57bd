"""Where the instances of a program run: each version, and in it each instance, has its own place.

Several of them may write `checkpoint.pt` or make the directory `out`; they must meet neither each
other nor the user's files.
"""

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..render.units import one_line
from ..scripts.target import Target
from ..scripts.tracing import terminated_by_exception
from ..scripts.workplace import (
    LIMIT_BYTES,
    LIMIT_FILES,
    PREFIX,
    copy_entry,
    directory_size,
    files_in,
    fill,
    moved,
)
from .ignored import IgnoredPlan, place_ignored, plan_ignored
from .imports import import_path
from .leftovers import is_abandoned, left_behind, own_prefix
from .repository import Listing, Repository, Revision, find_repository

WORKING_TREE = "working tree"
_LIMIT = f"{LIMIT_BYTES // 2**20} MiB or {LIMIT_FILES} files"


@dataclass(frozen=True, slots=True)
class VersionOrder:
    """A version of a program.

    Attributes:
        target: what is run, as named from the working directory.
        revision: of the repository; None for the working tree as it is.
        name: of the version, for reports, where it is none of a revision.
    """

    target: Target
    revision: str | None = None
    name: str = WORKING_TREE


@dataclass(frozen=True, slots=True)
class Place:
    """Where one instance runs.

    Attributes:
        root: of its copy of the repository, or of the working directory.
        directory: what its working directory is.
        target: the program, as named from there.
        environment: variables that it needs beside those of this process.
    """

    root: Path
    directory: Path
    target: Target
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class VersionPlaces:
    """The places of a version's instances.

    Attributes:
        name: of the version, for reports.
        commit: short, with `+changes`; None where none is known.
        places: one an instance; all the same where the copy is too large to be made often.
        another: makes one more, for an instance that is started anew: its predecessor has left
            files behind.
    """

    name: str
    commit: str | None
    places: tuple[Place, ...]
    another: Callable[[], Place]


@dataclass(frozen=True, slots=True)
class Places:
    """All places.

    Attributes:
        versions: as ordered.
        repository: root of the user's own files; see `foreign_modules`.
        shared: those of them that all instances use; see there.
        gaps: sentences.
    """

    versions: tuple[VersionPlaces, ...]
    repository: Path
    shared: tuple[Path, ...]
    gaps: tuple[str, ...]


@contextmanager
def places(versions: Sequence[VersionOrder], count: int) -> Iterator[Places]:
    """Make the places of all instances; they are gone afterwards, whatever happens.

    They lie beside the repository, so that `../data` is still there; elsewhere if that directory
    cannot be written.

    Args:
        versions: of the program.
        count: instances of each.

    Raises:
        InputError: a revision without a repository, or one that is not there; a program that a
            revision does not have; too much to copy.
        OutputError: git cannot make a worktree.
        OSError: there is no room.
    """
    here = Path.cwd().resolve()
    repository = find_repository(here)
    wanted = [one.revision for one in versions if one.revision is not None]
    if repository is None and wanted:
        if shutil.which("git") is None:
            raise InputError(f"revision {wanted[0]} needs git: install it, or use --base")
        raise InputError(
            f"revision {wanted[0]} needs a git repository, and there is none here: give the old "
            "script with --base"
        )
    with terminated_by_exception(), ExitStack() as stack:
        maker = (
            _CopyMaker(here, stack) if repository is None else _GitMaker(here, repository, stack)
        )
        yield maker.make(versions, count)


def own_files(here: Path) -> list[Path]:
    """The files that each place gets a copy of, in the order of their names; ignored ones not.

    Args:
        here: working directory.
    """
    here = here.resolve()
    repository = find_repository(here)
    if repository is None:
        return sorted(files_in(here))
    return sorted(repository.root / name for name in repository.listing().files)


class _Maker(ABC):
    """Makes places in one way.

    Args:
        here: working directory, without links.
        root: of the user's own files.
        stack: is told to remove what is made.
    """

    def __init__(self, here: Path, root: Path, stack: ExitStack) -> None:
        self._here, self._root, self._stack = here, root, stack
        self._shared: tuple[Path, ...] = ()
        self._gaps: list[str] = []
        self._parent = root.parent
        if not os.access(self._parent, os.W_OK):
            self._parent = Path(tempfile.gettempdir()).resolve()
            self._gaps.append(
                "the directory above cannot be written, so the instances ran in the temporary "
                "directory: what the program names by ../ was not there"
            )

    def make(self, versions: Sequence[VersionOrder], count: int) -> Places:
        self._clear()
        found = tuple(self._version(one, count) for one in versions)
        gaps = tuple(dict.fromkeys(self._gaps))
        return Places(found, self._root, self._shared, gaps)

    @abstractmethod
    def _version(self, version: VersionOrder, count: int) -> VersionPlaces:
        """Places of a version, for so many instances."""

    def _clear(self) -> None:
        """Remove what a check left behind that was killed."""
        for parent in {self._parent, Path(tempfile.gettempdir()).resolve()}:
            for place in left_behind(parent):
                shutil.rmtree(place, ignore_errors=True)

    def _made(
        self,
        version: VersionOrder,
        count: int,
        make: Callable[[Path], None],
        name: str,
        commit: str | None = None,
        *,
        is_large: bool = False,
    ) -> VersionPlaces:
        """Places of a version; one for all of its instances if it is large."""

        def another() -> Place:
            copy = self._empty()
            make(copy)
            return self._place(version, name, copy)

        if not is_large:
            return VersionPlaces(name, commit, tuple(another() for _ in range(count)), another)
        only = another()
        if count > 1:
            self._gaps.append(
                f"{one_line(name, 60)} is over {_LIMIT}: all of its instances ran in one copy, "
                "where what one writes the others find"
            )
        return VersionPlaces(name, commit, (only,) * count, lambda: only)

    def _empty(self) -> Path:
        made = tempfile.mkdtemp(prefix=own_prefix(), dir=self._parent)
        place = Path(made).resolve()
        self._stack.callback(shutil.rmtree, place, ignore_errors=True)
        return place

    def _place(self, version: VersionOrder, name: str, copy: Path) -> Place:
        directory = copy / self._here.relative_to(self._root)
        directory.mkdir(parents=True, exist_ok=True)
        target = version.target
        arguments = tuple(self._argument(one, copy) for one in target.arguments)
        target = replace(target, arguments=arguments)
        if target.kind == "script":
            target = replace(target, name=self._led(target.name, copy))
            if not (directory / target.name).exists():
                raise InputError(
                    f"{version.target.name} does not exist in {name}: give the old script with "
                    "--base"
                )
        path = import_path(self._root, copy)
        return Place(copy, directory, target, {"PYTHONPATH": path} if path else {})

    def _argument(self, argument: str, copy: Path) -> str:
        """An argument of the program: a path in the working tree leads to the same in the copy."""
        name, equals, value = argument.partition("=")
        if os.path.isabs(name) or name.split("/")[0] == "..":  # a path with a `=` in it
            name, equals, value = "", "", argument
        if os.path.isabs(value):
            value = moved(value, self._root, copy) if self._is_inside(value) else value
        elif value.split("/")[0] == "..":
            value = self._led(value, copy)
        return f"{name}{equals}{value}"

    def _led(self, path: str, copy: Path) -> str:
        """A path as it leads to the same in the copy, or outside of it."""
        absolute = os.path.abspath(self._here / path)
        leads_to = moved(absolute, self._root, copy)
        from_there = os.path.abspath(copy / self._here.relative_to(self._root) / path)
        # What leads there by itself stays as the user wrote it.
        return path if not os.path.isabs(path) and from_there == leads_to else leads_to

    def _is_inside(self, path: str) -> bool:
        return moved(path, self._root, Path(os.sep, PREFIX)).startswith(f"{os.sep}{PREFIX}")


class _GitMaker(_Maker):
    def __init__(self, here: Path, repository: Repository, stack: ExitStack) -> None:
        super().__init__(here, repository.root, stack)
        self._repository = repository
        self._listing: Listing | None = None
        self._ignored: IgnoredPlan | None = None

    def make(self, versions: Sequence[VersionOrder], count: int) -> Places:
        # Before anything is made: this is where most mistakes show.
        for version in versions:
            if version.revision is not None:
                self._repository.resolve(version.revision)
        self._ignored = plan_ignored(self._root, self._repository.ignored())
        self._gaps += self._ignored.gaps
        self._shared = tuple(self._root / name for name in self._ignored.linked)
        return super().make(versions, count)

    def _version(self, version: VersionOrder, count: int) -> VersionPlaces:
        if version.revision is None:
            if self._listing is None:
                self._listing = self._repository.listing()
                self._gaps += self._listing.gaps
            size = self._listing.size_bytes, len(self._listing.files)
            commit = self._repository.head()
            return self._made(
                version, count, self._copy, version.name, commit, is_large=_is_large(size)
            )
        revision = self._repository.resolve(version.revision)
        size = self._repository.tree_size(revision.commit)

        def check_out(copy: Path) -> None:
            self._check_out(revision, copy)

        return self._made(
            version, count, check_out, revision.name, revision.short, is_large=_is_large(size)
        )

    def _check_out(self, revision: Revision, copy: Path) -> None:
        self._gaps += self._repository.check_out(revision, copy, self._stack)
        assert self._ignored is not None  # planned before any place is made
        place_ignored(self._ignored, self._root, copy)

    def _copy(self, copy: Path) -> None:
        assert self._listing is not None
        assert self._ignored is not None
        if not self._repository.shadow(copy, self._stack):
            self._gaps.append("the copies of the working tree are no git repositories")
        for name in self._listing.files:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_entry(self._root / name, target, self._root, copy)
        place_ignored(self._ignored, self._root, copy)

    def _clear(self) -> None:
        for place in self._repository.worktrees():
            if is_abandoned(place):
                self._repository.forget(place)
        super()._clear()


class _CopyMaker(_Maker):
    def __init__(self, here: Path, stack: ExitStack) -> None:
        super().__init__(here, here, stack)

    def _version(self, version: VersionOrder, count: int) -> VersionPlaces:
        if directory_size(self._root) is None:
            raise InputError(
                f"the working directory is over {_LIMIT}, too large to copy for each instance: "
                "make it a git repository that ignores its data, or start where there is less"
            )

        def copy_all(copy: Path) -> None:
            fill(self._root, self._root, copy)

        return self._made(version, count, copy_all, version.name)


def _is_large(size: tuple[int, int]) -> bool:
    return size[0] > LIMIT_BYTES or size[1] > LIMIT_FILES
