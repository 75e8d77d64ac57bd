import os
import sys
from pathlib import Path

import pytest

from profkit.errors import InputError
from profkit.scripts.target import Target, check_target


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(kind: str, name: str) -> str:
    before = list(sys.path), set(sys.modules)
    with pytest.raises(InputError) as error:
        check_target(Target(kind, name))  # type: ignore[arg-type]
    assert (list(sys.path), set(sys.modules)) == before
    return str(error.value)


def test_a_script_that_cannot_be_one_is_refused_in_words(place: Path) -> None:
    assert refusal("script", "train.py") == (
        "train.py does not exist: give a Python script, or a module with -m"
    )
    (place / "folder").mkdir()
    assert refusal("script", "folder") == "folder has no __main__.py: give a script in it"
    (place / "model.pt").write_bytes(b"\x80\x02PK\0\0")
    assert "null bytes" in refusal("script", "model.pt")
    (place / "latin.py").write_bytes("x = 'é'".encode("latin-1"))
    assert "not in UTF-8" in refusal("script", "latin.py")
    (place / "strange.py").write_bytes(b"# coding: no-such-coding\n")
    assert "not in UTF-8" in refusal("script", "strange.py")
    (place / "old.pyc").write_bytes(b"\x01\x02\r\n" + b"\0" * 20)
    assert "another version of Python" in refusal("script", "old.pyc")
    (place / "round.py").symlink_to("round.py")
    assert refusal("script", "round.py").startswith("cannot read round.py: ")


def test_scripts_that_python_can_run_pass(place: Path) -> None:
    (place / "wrong.py").write_text("this is no python")  # shown as Python shows it
    (place / "latin.py").write_bytes("# coding: latin-1\nx = 'é'".encode("latin-1"))
    (place / "no_suffix").write_text("")
    (place / "folder").mkdir()
    (place / "folder" / "__main__.py").write_text("")
    for name in ("wrong.py", "latin.py", "no_suffix", "folder"):
        check_target(Target("script", name))


def test_a_pipe_is_not_read_before_it_is_run(place: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"print(1)")
    os.close(writing)
    if not os.path.exists(f"/dev/fd/{reading}"):
        pytest.skip("this system has no /dev/fd")
    check_target(Target("script", f"/dev/fd/{reading}"))
    assert os.read(reading, 99) == b"print(1)"
    os.close(reading)


def test_modules_are_found_without_being_imported(place: Path) -> None:
    package = place / "no_such_package_yet"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "train.py").write_text("raise RuntimeError('imported')")
    (package / "inner" / "deep.py").write_text("")
    name = package.name
    check_target(Target("module", f"{name}.train"))
    check_target(Target("module", "json.tool"))
    check_target(Target("module", "profkit"))
    assert refusal("module", f"{name}.missing").startswith(f"no module named {name}.missing in")
    assert refusal("module", name) == f"{name} is a package without __main__: name a module in it"
    assert "-m takes train" in refusal("module", "train.py")
    for odd in ("", ".", ".train", "a..b", "no/module", "json.tool.more"):
        assert "no module named" in refusal("module", odd)
    (package / "__main__.py").write_text("")
    check_target(Target("module", name))
    # Only importing it would tell what such a package holds.
    (package / "__init__.py").write_text("__path__.append('elsewhere')")
    check_target(Target("module", f"{name}.missing"))
    # A namespace within a package: found when it runs, or not.
    check_target(Target("module", f"{name}.inner.deep"))
