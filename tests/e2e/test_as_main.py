"""What a program finds around it, beside what it finds when `python` runs it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from programs import DRIVER, Programs


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "work")


FACTS = """
import builtins, os, sys
print(sys.argv, sys.orig_argv[1:], sys.path, os.getcwd(), sys.stdin.read(), sys.exc_info())
print(__name__, __file__, __package__, __cached__, __doc__, type(__loader__).__name__)
print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent), list(globals()))
print(__builtins__ is builtins, __annotations__, sys.modules["__main__"].__dict__ is globals())
print(os._exit.__name__, sys.excepthook is sys.__excepthook__)
"""


def test_a_program_finds_everything_as_under_python(programs: Programs) -> None:
    for name in ("sub/run.py", "folder/__main__.py", "package/__main__.py", "package/inner.py"):
        programs.write(name, FACTS)
    programs.write("package/__init__.py", "")
    for arguments in (["sub/run.py"], ["./sub/../sub/run.py"], ["folder"], ["./folder/"]):
        seen = programs.both(*arguments, "--steps", "3", stdin="typed")
        assert (seen.code, seen.stderr) == (0, "")
        assert "'--steps', '3'" in seen.stdout
        assert "typed" in seen.stdout
    for module in ("package", "package.inner", "sub.run"):
        seen = programs.both("-m", module, "-x", stdin="typed")
        assert (seen.code, seen.stderr) == (0, "")
        assert "sub" in seen.stdout or "package" in seen.stdout
    assert programs.endings == ["completed 0 True"]


def test_zip_files_symbolic_links_and_compiled_files_run(programs: Programs) -> None:
    import py_compile
    import zipfile

    programs.write("sub/run.py", FACTS.replace("__cached__", "0"))
    (programs.directory / "link.py").symlink_to("sub/run.py")
    with zipfile.ZipFile(programs.directory / "bundle.zip", "w") as bundle:
        bundle.writestr("__main__.py", FACTS)
        bundle.writestr("beside.py", "")
    py_compile.compile(
        str(programs.directory / "sub" / "run.py"), str(programs.directory / "c.pyc")
    )
    for name in ("link.py", "bundle.zip", "c.pyc"):
        assert programs.both(name, "1").code == 0
        assert programs.endings == ["completed 0 True"]


@pytest.mark.parametrize("way", ["console script", "module", "safe path", "safe path and console"])
def test_nothing_stays_of_the_path_that_profkit_was_started_with(
    programs: Programs, way: str, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "start").write_text(DRIVER)
    programs.write("starter.py", DRIVER)
    programs.write("sub/run.py", FACTS)
    file = str(tmp_path / "bin" / "start")
    driver = {
        "console script": (file,),
        "module": ("-m", "starter"),
        "safe path": ("-c", DRIVER),
        "safe path and console": (file,),
    }[way]
    safe = {"PYTHONSAFEPATH": "1"} if way.startswith("safe") else {}
    for arguments in (["sub/run.py", "1"], ["-m", "sub.run", "1"]):
        if safe and arguments[0] == "-m":
            continue
        alone = programs.python(*arguments, environment=safe)
        assert alone.code == 0
        assert programs.profkit(*arguments, driver=driver, environment=safe) == alone
        assert programs.endings == ["completed 0 True"]


MANNERS = {
    "changes directory": "import os; os.mkdir('d'); os.chdir('d'); print(__file__); 1 / 0",
    "leaves no directory": "import os; os.mkdir('e'); os.chdir('e'); os.rmdir('../e'); 1 / 0",
    "closes stderr": "import sys; sys.stderr.close(); 1 / 0",
    "closes descriptor 2": "import os; os.close(2); 1 / 0",
    "has no stderr": "import sys; sys.stderr = None; sys.exit('text')",
    "has no streams": "import sys; sys.stderr = sys.stdout = None; 1 / 0",
    "replaces stdout": "import io, sys; print('a'); sys.stdout = io.StringIO(); print('b')",
    "closes stdout": "import sys; print('a'); sys.stdout.close()",
    "deletes itself": "import os\nos.remove(__file__)\nraise ValueError('gone')",
    "replaces __main__": "import sys\nsys.modules['__main__'] = type(sys)('x')\n1 / 0",
    "pickles": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "own __name__": "__name__ = 'x'\nraise ValueError",
    "starts itself": (
        "import os, subprocess, sys\n"
        "print(sys.argv, flush=True)\n"
        "if len(sys.argv) == 1:\n"
        "    subprocess.run([sys.executable, *sys.orig_argv[1:], 'again'], check=True)\n"
    ),
}


@pytest.mark.parametrize("name", MANNERS)
def test_programs_of_bad_manners_are_left_alone(programs: Programs, name: str) -> None:
    source, outcomes = MANNERS[name], []
    for run in (programs.python, programs.profkit):
        for left in programs.directory.iterdir():
            left.rmdir() if left.is_dir() else left.unlink()
        programs.write("run.py", source)
        outcomes.append(run("run.py"))
    # Python tells about what it cannot show by its address.
    alone, watched = (
        replace(one, stderr=re.sub(r"0x\w+|refcount : \d+", "", one.stderr)) for one in outcomes
    )
    assert alone == watched
    assert len(programs.endings) == 1


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_import_the_program_and_not_profkit(programs: Programs, method: str) -> None:
    source = (
        "import multiprocessing, os, sys\n"
        "if __name__ == '__mp_main__':\n    print('imported', __file__, flush=True)\n"
        f"seen = {0 if method == 'fork' else 9}\n"
        "class Item:\n    pass\n"
        "def work(item):\n"
        "    ours = [name for name in sys.modules if name.startswith('profkit')]\n"
        "    main = sys.modules['__main__']\n"
        "    return type(item) is Item, Item.__module__, main.__name__, sys.argv, ours[:seen]\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    with context.Pool(1) as pool:\n"
        "        print(pool.map(work, [Item()]), flush=True)\n"
        "    process = context.Process(target=sys.exit, args=[3])\n"
        "    process.start()\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    programs.write("run.py", source)
    for arguments in (["run.py", "1"], ["-m", "run", "1"]):
        seen = programs.both(*arguments)
        assert "[(True, '__m" in seen.stdout
        assert ("imported" in seen.stdout) == (method != "fork")
        assert seen.stdout.endswith("\n3\n")
        assert programs.endings == ["completed 0 True"]


def test_modules_beside_the_program_come_first_whatever_profkit_has_loaded(
    programs: Programs,
) -> None:
    programs.write("sub/queue.py", "WHO = 'mine'")
    programs.write("sub/run.py", "import queue, json; print(queue.WHO, json.__name__)")
    assert programs.both("sub/run.py").stdout == "mine json\n"
    # What runs at the end is profkit's own again.
    seen = programs.profkit("sub/run.py", environment={"AT_END": "import queue; queue.Queue()"})
    assert seen.stderr == ""
    # As a console script, which does not see the working directory itself.
    programs.write("bin/start", DRIVER)
    programs.write("queue.py", "print('a module')")
    for run in (
        programs.python("-m", "queue"),
        programs.profkit("-m", "queue", driver=("bin/start",)),
    ):
        assert (run.stdout, run.stderr) == ("a module\n", "")


def test_importing_it_loads_nothing_that_a_program_may_want_to_prepare(programs: Programs) -> None:
    programs.write(
        "check.py",
        "import sys\n"
        "import profkit.scripts.as_main, profkit.probe.import_watch, profkit.scripts.signals\n"
        "print([name for name in ('torch', 'numpy', 'pyarrow', 'click') if name in sys.modules])\n",
    )
    assert programs.python("check.py").stdout == "[]\n"
    programs.write(
        "run.py",
        "import os, sys\nprint([name for name in ('torch', 'numpy') if name in sys.modules])",
    )
    assert programs.both("run.py").stdout == "[]\n"
