"""Has an instance import the user's packages from its own place, and tells when it does not."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..scripts.target import inherited_path
from ..scripts.workplace import PREFIX, moved

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OWN = Path(__file__).resolve().parents[1]
"""profkit itself: it is measured with, not measured."""


def import_path(
    repository: Path,
    copy: Path,
    *,
    paths: Iterable[str] | None = None,
    variable: str | None = None,
    mappings: Mapping[str, str] | None = None,
) -> str:
    """`PYTHONPATH` with which a process imports from the copy what it would from the repository.

    Args:
        repository: root of the working tree.
        copy: of it, or of another revision.
        paths: `sys.path` of this interpreter; an editable install may have added to it.
        variable: `PYTHONPATH` of this process.
        mappings: where editable installs find packages that no path leads to.

    Returns:
        Entries as there are in `PYTHONPATH`, and further ones that lead into the copy; empty
        where nothing is to be said.
    """
    if paths is None:
        paths = inherited_path()
    if variable is None:
        variable = os.environ.get("PYTHONPATH", "")
    if mappings is None:
        mappings = editable_mappings()
    given = [os.path.abspath(entry) for entry in variable.split(os.pathsep) if entry]
    found = [moved(one, repository, copy) if _is_own(one, repository) else one for one in given]
    homes = [_home(name, path) for name, path in mappings.items() if name != _OWN.name]
    for entry in (*paths, *homes):
        # An empty one is the working directory: the instance's is its own.
        if entry and _is_own(os.path.abspath(entry), repository):
            found.append(moved(os.path.abspath(entry), repository, copy))
    return os.pathsep.join(dict.fromkeys(found))


def editable_mappings() -> dict[str, str]:
    """Package → directory (or module → file) of each editable install with a finder of its own.

    Source: setuptools' `__editable___<name>_finder` modules, their MAPPING and NAMESPACES.
    """
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        if not name.startswith("__editable__"):
            continue
        packages, namespaces = vars(module).get("MAPPING"), vars(module).get("NAMESPACES")
        if isinstance(packages, dict):
            found |= {str(package): str(path) for package, path in packages.items()}
        if isinstance(namespaces, dict):
            for package, paths in namespaces.items():
                found |= {str(package): str(path) for path in list(paths)[:1]}
    return found


def foreign_modules(
    files: Iterable[str], repository: Path, shared: Iterable[Path] = ()
) -> list[str]:
    """Files of the user's working tree among those of loaded modules.

    An instance that has loaded one does not run its own version alone.

    Args:
        files: of modules.
        repository: root of the working tree.
        shared: what all instances have in common, see `Place`.

    Returns:
        Paths from the root, in order; installed packages, environments, what is shared and
        profkit itself left out.
    """
    root, common = repository.resolve(), [one.resolve() for one in shared]
    found = set()
    for file in files:
        path = Path(os.path.realpath(file))
        if _is_own(str(path), root) and not any(path.is_relative_to(one) for one in common):
            found.add(path.relative_to(root).as_posix())
    return sorted(found)


def _is_own(path: str, repository: Path) -> bool:
    """Whether it lies in the working tree itself, and not in an environment there."""
    place = Path(path)
    for root in (repository, repository.resolve()):
        if place.is_relative_to(root) and not place.is_relative_to(_OWN):
            parts = place.relative_to(root).parts
            if _INSTALLED & set(parts) or any(part.startswith(PREFIX) for part in parts):
                return False
            above = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
            return not any((one / "pyvenv.cfg").is_file() for one in above)
    return False


def _home(name: str, path: str) -> str | None:
    """The entry of `sys.path` from which a package is found; None if it lies under another name."""
    parts = tuple(name.split("."))
    place = Path(path)
    ends = place.with_suffix("") if place.suffix == ".py" else place
    if ends.parts[-len(parts) :] != parts:
        return None
    return str(place.parents[len(parts) - 1])
