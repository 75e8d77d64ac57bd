import os
from pathlib import Path

import pytest

from conftest import make_manifest
from profkit.scripts import workplace
from profkit.scripts.workplace import copied, directory_size, moved
from profkit.store.run_directory import write_manifest, write_set


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "package").mkdir(parents=True)
    (path / "train.py").write_text("x = 1")
    (path / "package" / "data.txt").write_text("data")
    return path


def content(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_copy_holds_the_same_and_is_gone_afterwards(project: Path) -> None:
    with copied(project) as copy:
        assert copy.parent == project.parent  # so that ../data is still there
        assert content(copy) == {"train.py", "package", "package/data.txt"}
        (copy / "written.txt").write_text("")
        (copy / "train.py").write_text("x = 2")
    assert not copy.exists()
    assert content(project) == {"train.py", "package", "package/data.txt"}
    assert (project / "train.py").read_text() == "x = 1"


def test_a_copy_is_gone_after_an_exception_too(project: Path) -> None:
    with pytest.raises(KeyboardInterrupt), copied(project) as copy:
        raise KeyboardInterrupt
    assert list(project.parent.iterdir()) == [project]
    assert not copy.exists()


def test_environments_histories_and_runs_are_left_out(project: Path) -> None:
    for name in (".git/HEAD", "runs/old/steps.arrow", "env/pyvenv.cfg", "env/lib/big.so"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x" * 1000)
    for name in ("mine", "set/one"):
        (project / name).mkdir(parents=True)
        write_manifest(project / name, make_manifest())
    write_set(project / "set", ("one",))
    # Other tools write a file of that name too.
    (project / "theirs").mkdir()
    (project / "theirs" / "run.json").write_text('{"epochs": 3}')
    with copied(project) as copy:
        assert content(copy) == {
            *("train.py", "package", "package/data.txt", "theirs", "theirs/run.json")
        }
    size = directory_size(project)
    assert size == (5 + 4 + 13, 3)


def test_what_is_linked_is_neither_counted_nor_copied(project: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big.bin").write_bytes(bytes(100_000))
    links = {
        "absolute": tmp_path / "data",
        "relative": Path("../data"),
        "file": Path("../data/big.bin"),
        "inside": project / "package",
        "inside.txt": Path("package/data.txt"),
        "package/up": Path("../train.py"),
        "dangling": Path("../nowhere"),
        "itself": Path(),
    }
    for name, target in links.items():
        (project / name).symlink_to(target)
    size = directory_size(project)
    assert size is not None
    assert size[0] < 1000
    with copied(project) as copy:
        for name in ("absolute", "relative"):
            assert (copy / name).is_symlink()
            assert (copy / name / "big.bin").resolve() == tmp_path / "data" / "big.bin"
        assert (copy / "file").resolve() == tmp_path / "data" / "big.bin"
        # What is written through a link to the inside stays in the copy.
        assert (copy / "inside").resolve() == copy / "package"
        assert (copy / "itself").resolve() == copy
        (copy / "inside.txt").write_text("changed")
        (copy / "package" / "up").write_text("changed")
    assert (project / "package" / "data.txt").read_text() == "data"
    assert (project / "train.py").read_text() == "x = 1"


def test_what_is_no_file_or_cannot_be_read_is_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(project / "pipe")
    (project / "secret").write_text("x")
    copy2 = workplace.shutil.copy2

    def refuse(source: Path, target: Path) -> None:
        if source.name == "secret":
            raise PermissionError
        copy2(source, target)

    monkeypatch.setattr(workplace.shutil, "copy2", refuse)
    with copied(project) as copy:
        assert content(copy) == {"train.py", "package", "package/data.txt"}


@pytest.mark.parametrize("limit", ["LIMIT_BYTES", "LIMIT_FILES"])
def test_what_is_too_large_has_no_size(
    project: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    size = directory_size(project)
    assert size == (9, 2)
    monkeypatch.setattr(workplace, limit, 2 if limit == "LIMIT_FILES" else 9)
    assert directory_size(project) == size
    monkeypatch.setattr(workplace, limit, 1 if limit == "LIMIT_FILES" else 8)
    assert directory_size(project) is None


def test_paths_lead_into_the_copy_where_they_led_into_the_directory(
    project: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for path, there in {
        "train.py": "train.py",
        "./package/../train.py": "train.py",
        "../project/train.py": "train.py",
        str(project / "train.py"): str(copy / "train.py"),
        "../other/train.py": str(tmp_path / "other" / "train.py"),
        "/somewhere/train.py": "/somewhere/train.py",
        str(tmp_path / "projects" / "train.py"): str(tmp_path / "projects" / "train.py"),
        ".": ".",
    }.items():
        assert moved(path, project, copy) == there
    (tmp_path / "link").symlink_to(project)
    assert moved(str(tmp_path / "link" / "train.py"), project, copy) == str(copy / "train.py")
