"""The git repository that a program lies in: its revisions, files and worktrees."""

import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import InputError, OutputError
from ..render.units import one_line
from ..scripts.workplace import is_left_out

OF_A_HOOK = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX",
    "GIT_COMMON_DIR",
)  # fmt: skip
"""Set where git has called us: they would lead every git, ours or a program's, to the user's own
repository and index."""
_SETTINGS = (
    *("-c", f"core.hooksPath={os.devnull}"),  # a checkout would run the user's hooks
    *("-c", "core.fsmonitor=false"),  # or leave a watcher behind for each worktree
    *("-c", "submodule.recurse=false"),
)
_SHORT = 12
_NAME = re.compile(r"(?!HEAD|-)[\w./-]+", re.ASCII)
"""Of a branch, a tag or a commit, as a remote has it."""


class GitError(Exception):
    """Git refused; its last words."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit and how it was asked for.

    Attributes:
        name: such as `main`, or `origin/main` where only the remote's branch is there.
        commit: its full digest.
    """

    name: str
    commit: str

    @property
    def short(self) -> str:
        """Fit for a report."""
        return self.commit[:_SHORT]


@dataclass(frozen=True, slots=True)
class Listing:
    """Files of a working tree that belong to the program.

    Attributes:
        files: paths from its root, tracked or new; left out are those that are ignored or gone,
            and what is new in an environment, a cache or profkit's output.
        size_bytes: of all of them.
        gaps: sentences: what should be among them and is not.
    """

    files: tuple[str, ...]
    size_bytes: int
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with a working tree.

    Attributes:
        root: of the working tree, without links.
    """

    root: Path

    def resolve(self, reference: str) -> Revision:
        """The commit that a reference names; a branch may be a remote's only.

        Raises:
            InputError: there is no such commit here.
        """
        for name in (reference, *self._remote_branches(reference)):
            try:
                if reference and not reference.startswith("-"):
                    found = _git(
                        self.root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"
                    )
                    return Revision(name, found.strip())
            except GitError:
                continue
        words = f"no revision {reference!r} in this repository"
        if self._is_shallow():
            branch = reference.removeprefix("origin/")
            fetch = f"--depth=1 origin {branch}:refs/remotes/origin/{branch}"
            if not _NAME.fullmatch(branch):  # HEAD~1 and the like are no names there
                fetch = "--unshallow"
            raise InputError(
                f"{words}, which is a shallow clone: fetch it (git fetch {fetch}), or give "
                "actions/checkout fetch-depth: 0"
            )
        raise InputError(f"{words}: give a branch, a tag or a commit, or fetch it first")

    def head(self) -> str | None:
        """The working tree's commit, short, with `+changes` where files differ; None without."""
        try:
            commit = _git(self.root, "rev-parse", "--verify", "--quiet", "HEAD").strip()[:_SHORT]
            changes = _git(self.root, "status", "--porcelain", "--untracked-files=no")
        except GitError:
            return None
        return f"{commit}+changes" if changes else commit

    def listing(self) -> Listing:
        """The files of the working tree, those of submodules included."""
        return _listing(self.root)

    def ignored(self) -> list[str]:
        """What git ignores here, each directory once; what lies in one of those is left out."""
        found = _git(self.root, "ls-files", "-oi", "--exclude-standard", "--directory", "-z").split(
            "\0"
        )
        kept: dict[str, None] = {}
        for name in sorted({name.rstrip("/") for name in found} - {""}):
            if not any(str(above) in kept for above in Path(name).parents):
                kept[name] = None
        return list(kept)

    def tree_size(self, commit: str) -> tuple[int, int]:
        """Bytes and files of a commit, submodules not counted."""
        size = files = 0
        for entry in _git(self.root, "ls-tree", "-r", "-l", "-z", commit).split("\0"):
            words = entry.partition("\t")[0].split()
            if len(words) == 4 and words[3].isdigit():
                files += 1
                size += int(words[3])
        return size, files

    def check_out(self, revision: Revision, place: Path, stack: ExitStack) -> tuple[str, ...]:
        """Check a commit out into an empty directory, submodules included.

        Args:
            revision: what.
            place: where; it is a worktree until `stack` is closed.
            stack: is told to remove it.

        Returns:
            Sentences: what of it is missing.

        Raises:
            OutputError: git cannot do it.
        """
        try:
            return _check_out(self.root, place, revision.commit, stack)
        except GitError as error:
            raise OutputError(
                f"git cannot check {revision.name} out beside this repository: {error}; repair it, "
                "or give the old script with --base"
            ) from None

    def shadow(self, place: Path, stack: ExitStack) -> bool:
        """Make an empty directory a worktree of the current commit, for a copy of the files.

        Returns:
            Whether that worked; else a program that asks git finds no repository there.
        """
        try:
            _add_worktree(self.root, place, "HEAD", stack, "--no-checkout")
            _git(place, "read-tree", "HEAD")
        except GitError:
            return False
        return True

    def forget(self, place: Path) -> None:
        """Remove a worktree, as far as it is still there. Never touches other ones."""
        _forget(self.root, place)

    def worktrees(self) -> list[Path]:
        """Directories of the linked worktrees, some of which may be gone."""
        lines = _git(self.root, "worktree", "list", "--porcelain").splitlines()
        return [Path(line[9:]) for line in lines if line.startswith("worktree ")][1:]

    def _remote_branches(self, name: str) -> list[str]:
        """The remotes' branches of that name, as `origin/main`; nothing where it is not clear."""
        try:
            found = _git(
                self.root, "for-each-ref", "--format=%(refname)", f"refs/remotes/*/{name}"
            ).split()
        except GitError:
            return []
        found = [one.removeprefix("refs/remotes/") for one in found]
        found = [one for one in found if one.partition("/")[2] == name]
        return found if len(found) == 1 else []

    def _is_shallow(self) -> bool:
        try:
            return _git(self.root, "rev-parse", "--is-shallow-repository").strip() == "true"
        except GitError:
            return False


def find_repository(directory: Path) -> Repository | None:
    """The repository that a directory belongs to; None without one, or where it is ignored.

    Raises:
        InputError: git finds one and refuses to read it.
    """
    try:
        top = _git(directory, "rev-parse", "--show-toplevel").removesuffix("\n")
    except FileNotFoundError:  # there is no git
        return None
    except GitError as error:
        if "not a git repository" in str(error):
            return None
        raise InputError(
            f"git cannot read this repository: {error}; see what `git status` advises here"
        ) from None
    root = Path(top).resolve()
    if directory.resolve() != root:
        try:
            _git(root, "check-ignore", "--quiet", str(directory.resolve()))
        except GitError:
            return Repository(root)
        return None
    return Repository(root)


def _git(directory: Path, *arguments: str) -> str:
    """What git says.

    Raises:
        GitError: it refuses.
        FileNotFoundError: there is no git here.
    """
    environment = {key: value for key, value in os.environ.items() if key not in OF_A_HOOK}
    # English, for its words are read; without optional locks it gets in no other git's way.
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        ["git", *_SETTINGS, "-C", str(directory), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = os.fsdecode(done.stderr).strip().splitlines()
        fatal = [line for line in said if line.startswith(("fatal: ", "error: "))] or said
        raise GitError(fatal[0].partition(": ")[2] or fatal[0] if fatal else "it said nothing")
    return os.fsdecode(done.stdout)


def _listing(root: Path) -> Listing:
    files: list[str] = []
    gaps: list[str] = []
    size = 0

    @cache
    def is_out(place: Path) -> bool:
        return place != root and (is_left_out(place) or is_out(place.parent))

    tracked = _git(root, "ls-files", "-c", "-z").split("\0")
    new = _git(root, "ls-files", "-o", "--exclude-standard", "-z").split("\0")
    named = [*tracked, *(name for name in new if name and not is_out((root / name).parent))]
    for name in dict.fromkeys(named):  # a conflict names a file three times
        path = root / name
        if not name or not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_dir():
            files.append(name)
            size += path.lstat().st_size
        elif not (path / ".git").exists():
            gaps.append(
                f"submodule {one_line(name, 60)} is not checked out: git submodule update --init"
            )
        elif not _is_worktree(path):
            inner = _listing(path)
            files += [f"{name.rstrip('/')}/{one}" for one in inner.files]
            size += inner.size_bytes
            gaps += inner.gaps
    return Listing(tuple(files), size, tuple(gaps))


def _is_worktree(path: Path) -> bool:
    """Whether it is one more view of some repository, which happens to lie in this one."""
    try:
        return "/worktrees/" in (path / ".git").read_text("utf-8", "replace").replace("\\", "/")
    except OSError:  # a directory: a repository of its own
        return False


def _check_out(root: Path, place: Path, commit: str, stack: ExitStack) -> tuple[str, ...]:
    _add_worktree(root, place, commit, stack)
    gaps: list[str] = []
    for entry in _git(root, "ls-tree", "-r", "-z", commit).split("\0"):
        words, _, name = entry.partition("\t")
        if not words.startswith("160000 "):
            continue
        wanted = words.split()[2]
        try:
            if not (root / name / ".git").exists():
                raise GitError("it is not checked out in the working tree")
            gaps += _check_out(root / name, place / name, wanted, stack)
        except GitError as error:
            gaps.append(f"submodule {one_line(name, 60)} is missing at {wanted[:_SHORT]}: {error}")
    return tuple(gaps)


def _add_worktree(root: Path, place: Path, commit: str, stack: ExitStack, *options: str) -> None:
    stack.callback(_forget, root, place)
    _git(root, "worktree", "add", "--quiet", "--detach", *options, str(place), commit)


def _forget(root: Path, place: Path) -> None:
    try:
        # `worktree prune` would also forget the user's own on a disk that is not there now.
        _git(root, "worktree", "remove", "--force", "--force", str(place))
    except (GitError, OSError):
        shutil.rmtree(place, ignore_errors=True)
