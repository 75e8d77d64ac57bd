import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from profkit.probe.import_watch import when_imported
from programs import PROJECT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    finders, modules = list(sys.meta_path), set(sys.modules)
    yield tmp_path
    assert sys.meta_path == finders, "a watch was left behind"
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_it_is_told_once_after_the_whole_module_ran(place: Path) -> None:
    (place / "watched_a.py").write_text("first = 1\nimport json\nlast = 2\n")
    told: list[object] = []
    when_imported("watched_a", lambda module: told.append((module, vars(module).get("last"))))
    assert told == []
    module = importlib.import_module("watched_a")
    assert told == [(module, 2)]
    importlib.reload(module)
    assert len(told) == 1
    when_imported("watched_a", told.append)  # it already is
    assert told[1:] == [module]


def test_the_module_keeps_its_own_loader(place: Path) -> None:
    (place / "watched_b.py").write_text(
        "loaders = [__loader__, __spec__.loader]\nkinds = [type(one) for one in loaders]\n"
    )
    when_imported("watched_b", lambda module: None)
    module = importlib.import_module("watched_b")
    assert module.__spec__ is not None
    for loader in (module.__loader__, module.__spec__.loader, *module.loaders):
        assert type(loader) is SourceFileLoader
    assert module.kinds == [SourceFileLoader] * 2


def test_who_only_looks_at_the_spec_finds_all_of_it(place: Path) -> None:
    package = place / "watched_c"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1")
    (package / "data.txt").write_text("data")
    told: list[ModuleType] = []
    when_imported("watched_c", told.append)
    spec = importlib.util.find_spec("watched_c")
    assert spec is not None
    loader = spec.loader
    assert isinstance(loader, SourceFileLoader)
    assert loader.get_source("watched_c") == "x = 1"
    assert loader.is_package("watched_c")
    assert loader.get_filename("watched_c") == str(package / "__init__.py")
    assert loader.get_resource_reader("watched_c").is_resource("data.txt")
    assert pkgutil.get_data("watched_c", "data.txt") == b"data"
    assert [module.__name__ for module in told] == ["watched_c"]  # get_data imports it


def test_several_watches_and_submodules(place: Path) -> None:
    package = place / "watched_d"
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\nimport watched_e\n")
    (package / "inner.py").write_text("value = 1")
    (place / "watched_e.py").write_text("import watched_d.inner")
    told: list[str] = []
    for name in ("watched_d", "watched_e", "watched_d.inner", "watched_d"):
        when_imported(name, lambda module: told.append(module.__name__))
    importlib.import_module("watched_d")
    assert told == ["watched_d.inner", "watched_e", "watched_d", "watched_d"]


def test_an_act_may_import_and_watch_on(place: Path) -> None:
    (place / "watched_f.py").write_text("value = 1")
    (place / "watched_g.py").write_text("value = 2")
    told: list[int] = []

    def act(module: ModuleType) -> None:
        import watched_f  # type: ignore[import-not-found]

        when_imported("watched_g", lambda other: told.append(other.value))
        when_imported("json", lambda other: told.append(0))
        told.append(watched_f.value)

    when_imported("watched_f", act)
    importlib.import_module("watched_f")
    importlib.import_module("watched_g")
    assert told == [0, 1, 2]


def test_an_import_that_fails_may_be_tried_again(place: Path) -> None:
    told: list[ModuleType] = []
    when_imported("watched_h", told.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("watched_h")
    (place / "watched_h.py").write_text("raise ImportError('not yet')")
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match="not yet"):
        importlib.import_module("watched_h")
    assert (told, "watched_h" in sys.modules) == ([], False)
    (place / "watched_h.py").write_text("value = 'better'")
    importlib.invalidate_caches()
    module = importlib.import_module("watched_h")
    assert told == [module]


@pytest.mark.parametrize("error", ["ImportError", "ValueError"])
def test_a_failing_import_shows_the_traceback_that_it_has_without(place: Path, error: str) -> None:
    (place / "watched_i.py").write_text(f"raise {error}('broken')")

    def shown() -> str:
        try:
            import watched_i  # type: ignore[import-not-found]  # noqa: F401
        except Exception:
            return traceback.format_exc()
        return ""

    plain = shown()
    told: list[ModuleType] = []
    when_imported("watched_i", told.append)
    assert (place / "watched_i.py").name in plain
    assert shown() == plain
    (place / "watched_i.py").write_text("")
    importlib.invalidate_caches()
    importlib.import_module("watched_i")
    assert len(told) == 1


def test_what_the_act_raises_never_breaks_the_import(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(module: ModuleType) -> None:
        raise ValueError("two\nlines")

    def failed(error: Exception) -> None:
        errors.append(str(error))
        raise KeyError

    errors: list[str] = []
    (place / "watched_j.py").write_text("")
    when_imported("watched_j", act, failed)
    when_imported("watched_j", act)
    importlib.import_module("watched_j")
    assert errors == ["two\nlines"]
    said = capsys.readouterr().err
    assert said == "profkit: could not watch watched_j: ValueError: two lines\n"


def test_an_import_under_way_is_said_to_be_too_late(place: Path) -> None:
    (place / "watched_k.py").write_text(
        "from profkit.probe.import_watch import when_imported\n"
        "errors = []\n"
        "when_imported('watched_k', errors.clear, errors.append)\n"
    )
    (error,) = importlib.import_module("watched_k").errors
    assert "too late" in str(error)


def test_modules_in_zip_files_and_other_finders(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(place / "bundle.zip", "w") as bundle:
        bundle.writestr("watched_l.py", "value = 3")
        bundle.writestr("watched_m.py", "value = 4")
    monkeypatch.syspath_prepend(str(place / "bundle.zip"))

    class Asking:
        """Asks all finders, as other import hooks do; it minds only itself."""

        busy = False

        def find_spec(self, name: str, *_: object) -> object:
            if self.busy or not name.startswith("watched_"):
                return None
            self.busy = True
            try:
                return importlib.util.find_spec(name)
            finally:
                self.busy = False

    told: list[int] = []
    when_imported("watched_l", lambda module: told.append(module.value))
    monkeypatch.setattr(sys, "meta_path", [Asking(), *sys.meta_path, Asking()])
    importlib.import_module("watched_m")
    importlib.import_module("watched_l")
    assert told == [3]
    monkeypatch.undo()
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "_Finder"]


def test_threads_that_import_at_once_are_told_once() -> None:
    # In a process of its own: `numpy` can be imported only once in each.
    program = """
import sys, threading
from profkit.probe.import_watch import when_imported
told = []
when_imported("numpy", lambda module: told.append(module.__name__))
when_imported("numpy.random", lambda module: told.append(module.__name__))
def work():
    import numpy.random
    numpy.zeros(2)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(told), "import_watch" in repr(sys.meta_path))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("['numpy', 'numpy.random'] False\n", "")
