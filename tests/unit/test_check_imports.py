"""Which version's packages an instance imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import profkit
from profkit.verify.imports import editable_mappings, foreign_modules, import_path
from repositories import write


def paths(repository: Path, copy: Path, *entries: str, **given: object) -> list[str]:
    known: dict[str, object] = {"paths": entries, "variable": "", "mappings": {}, **given}
    found = import_path(repository, copy, **known)  # type: ignore[arg-type]
    return found.split(os.pathsep) if found else []


def test_entries_in_the_repository_lead_into_the_copy(tmp_path: Path) -> None:
    repository, copy = tmp_path / "repo", tmp_path / "copy"
    found = paths(repository, copy, str(repository / "src"), str(repository), "/usr/lib/x", "")
    assert found == [str(copy / "src"), str(copy)]


def test_environments_and_profkit_itself_stay_where_they_are(tmp_path: Path) -> None:
    repository, copy = tmp_path / "repo", tmp_path / "copy"
    write(repository, {"env/pyvenv.cfg": "", "conda/lib/site-packages/x.py": ""})
    inside = [str(repository / "env" / "lib"), str(repository / "conda/lib/site-packages")]
    assert paths(repository, copy, *inside) == []
    own = Path(profkit.__file__).parent
    assert paths(own.parent, copy, mappings={"profkit": str(own)}) == []


def test_pythonpath_keeps_its_order(tmp_path: Path) -> None:
    repository, copy = tmp_path / "repo", tmp_path / "copy"
    variable = os.pathsep.join(["/first", str(repository / "src"), "", "/last"])
    found = paths(repository, copy, str(repository / "more"), variable=variable)
    assert found == ["/first", str(copy / "src"), "/last", str(copy / "more")]


def test_a_relative_pythonpath_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    found = paths(tmp_path / "repo", tmp_path / "copy", variable="src")
    assert found == [str(tmp_path / "copy" / "src")]


def test_editable_installs_with_a_finder_are_found_by_path(tmp_path: Path) -> None:
    repository, copy = tmp_path / "repo", tmp_path / "copy"
    mappings = {
        "package": str(repository / "src" / "package"),
        "module": str(repository / "module.py"),
        "name.space": str(repository / "spaces" / "name" / "space"),
        "renamed": str(repository / "odd" / "lib"),  # no entry of sys.path can say that
        "other": "/elsewhere/other",
    }
    found = paths(repository, copy, mappings=mappings)
    assert found == [str(copy / "src"), str(copy), str(copy / "spaces")]


def test_finders_of_editable_installs_are_known_by_their_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finder = type(sys)("__editable___thing_1_0_finder")
    vars(finder).update(MAPPING={"thing": "/a/thing"}, NAMESPACES={"space": ["/b/space"]})
    monkeypatch.setitem(sys.modules, finder.__name__, finder)
    assert {"thing": "/a/thing", "space": "/b/space"}.items() <= editable_mappings().items()


def test_a_process_imports_from_the_copy(tmp_path: Path) -> None:
    # As with `pip install -e`: a .pth file has put the working tree on sys.path.
    write(tmp_path, {"repo/src/mine.py": "x = 'working tree'", "copy/src/mine.py": "x = 'copy'"})
    code = (
        f"import sys; sys.path.append({str(tmp_path / 'repo' / 'src')!r})\n"
        "import mine; print(mine.x); print(mine.__file__)"
    )
    variable = import_path(
        tmp_path / "repo", tmp_path / "copy", paths=[str(tmp_path / "repo" / "src")], mappings={}
    )
    for environment, expected in (({"PYTHONPATH": variable}, "copy"), ({}, "working tree")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": "", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        where, file = done.stdout.splitlines()
        assert where == expected
        foreign = foreign_modules([file], tmp_path / "repo")
        assert foreign == ([] if expected == "copy" else ["src/mine.py"])


def test_foreign_modules_are_those_of_the_working_tree(tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    write(repository, {"env/pyvenv.cfg": "", "data/gen.py": "", "src/a.py": "", "env/lib/b.py": ""})
    (tmp_path / "alias").symlink_to(repository)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "leak").symlink_to(repository / "src")
    files = [
        str(tmp_path / "copy" / "leak" / "leaked.py"),
        str(repository / "src" / "z.py"),
        str(tmp_path / "alias" / "src" / "a.py"),
        str(repository / "src" / "a.py"),
        str(repository / "env" / "lib" / "b.py"),
        str(repository / "conda" / "site-packages" / "c.py"),
        str(repository / "data" / "gen.py"),
        str(tmp_path / "repository" / "d.py"),
        str(tmp_path / "copy" / "src" / "a.py"),
    ]
    own = ["src/a.py", "src/leaked.py", "src/z.py"]
    assert foreign_modules(files, repository, [repository / "data"]) == own
    assert foreign_modules(files, repository) == ["data/gen.py", *own]


def test_profkit_is_not_foreign_to_its_own_repository() -> None:
    own = Path(profkit.__file__)
    assert foreign_modules([str(own)], own.parents[1]) == []
