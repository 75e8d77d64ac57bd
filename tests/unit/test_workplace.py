import os
from pathlib import Path

import pytest

from profkit.scripts.workplace import LIMIT_BYTES, copied, directory_size, moved


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "runs").mkdir(parents=True)
    (place / "runs" / "old.bin").write_bytes(b"\0" * 1000)
    (place / "train.py").write_text("print(1)\n")
    return place


def test_a_copy_lies_beside_the_original_and_goes_away(project: Path) -> None:
    with copied(project) as copy:
        assert copy.parent == project.parent
        assert [one.name for one in copy.iterdir()] == ["train.py"]
        (copy / "train.py").write_text("")
    assert (project / "train.py").read_text() == "print(1)\n"
    assert [one.name for one in project.parent.iterdir()] == ["project"]


def test_what_lies_behind_links_is_neither_counted_nor_copied(project: Path) -> None:
    data = project.parent / "data"
    data.mkdir()
    with (data / "large.bin").open("wb") as file:
        file.truncate(LIMIT_BYTES + 1)
    (project / "data").symlink_to(data)
    (project / "near").symlink_to("../data")
    (project / "one.bin").symlink_to("../data/large.bin")
    (project / "gone").symlink_to("nowhere")
    assert directory_size(project) is not None
    with copied(project) as copy:
        for name in ("data", "near", "one.bin"):
            assert (copy / name).is_symlink()
            assert (copy / name).samefile(project / name)


def test_links_lead_to_the_same_place_from_a_copy_elsewhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.parent / "data").mkdir()
    (project / "near").symlink_to("../data")
    (project / "self.py").symlink_to("train.py")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with copied(project) as copy:
        assert copy.parent != project.parent
        assert (copy / "near").samefile(project.parent / "data")
        assert (copy / "self.py").samefile(copy / "train.py")


def test_a_large_directory_has_no_size(project: Path) -> None:
    with (project / "model.pt").open("wb") as file:
        file.truncate(LIMIT_BYTES + 1)
    assert directory_size(project) is None


def test_paths_within_the_directory_are_those_of_its_copy(tmp_path: Path) -> None:
    here, copy = tmp_path / "here", tmp_path / "copy"
    assert moved(str(here / "a" / "train.py"), here, copy) == str(copy / "a" / "train.py")
    assert moved("a/train.py", here, copy) == "a/train.py"
    assert moved(str(tmp_path / "train.py"), here, copy) == str(tmp_path / "train.py")
