"""How a program ends, beside how it ends when `python` runs it."""

from pathlib import Path

import pytest

from programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "work")


ENDINGS = {
    "end": ("x = 1", "completed 0"),
    "exit 3": ("import sys; sys.exit(3)", "exit code 3 3"),
    "exit 0": ("raise SystemExit(0)", "completed 0"),
    "exit none": ("raise SystemExit", "completed 0"),
    "exit -1": ("import sys; sys.exit(-1)", "exit code 255 255"),
    "exit large": ("import sys; sys.exit(2**40 + 4)", "exit code 4 4"),
    "exit true": ("import sys; sys.exit(True)", "exit code 1 1"),
    "exit text": ("import sys; print('out'); sys.exit('no such data')", "exit code 1 1"),
    "exit object": ("import sys; sys.exit(['a', 1])", "exit code 1 1"),
    "exception": (
        "def step(n):\n    return 1 / n\nprint('out')\nstep(0)",
        "stopped by ZeroDivisionError 1",
    ),
    "chained": (
        "try:\n    {}['a']\nexcept KeyError as error:\n    try:\n        int('x')\n"
        "    except ValueError:\n        raise RuntimeError('two\\nlines') from error",
        "stopped by RuntimeError 1",
    ),
    "syntax": ("print('never')\nfor in x:\n    pass", "stopped by SyntaxError 1"),
    "indentation": ("if True:\nx = 1", "stopped by IndentationError 1"),
    "odd name": (
        "raise type('A\\x1b[31m\\nB' + 'c' * 200, (Exception,), {})('x')",
        f"stopped by A?[31m?B{'c' * 72}… 1",
    ),
    "base exception": ("class Mine(BaseException): pass\nraise Mine", "stopped by Mine 1"),
    "import": ("import no_such_module", "stopped by ModuleNotFoundError 1"),
    "interrupt": (
        "import atexit; atexit.register(print, 'at exit'); raise KeyboardInterrupt",
        "interrupted (Ctrl-C) -2",
    ),
    "own hook": (
        "import sys\nsys.excepthook = lambda *error: print('hook', error[:2], file=sys.stderr)\n"
        "raise ValueError('x')",
        "stopped by ValueError 1",
    ),
    "own hook raises": (
        "import sys\ndef hook(*error):\n    raise KeyError('hook')\nsys.excepthook = hook\n"
        "def f():\n    raise ValueError('x')\nf()",
        "stopped by ValueError 1",
    ),
    "own hook exits": (
        "import sys\nsys.excepthook = lambda *error: sys.exit(7)\nraise ValueError",
        "stopped by ValueError 7",
    ),
    "no hook": ("import sys\ndel sys.excepthook\nraise ValueError('x')", "stopped by ValueError 1"),
    "recursion": ("def deep(n):\n    if n: deep(n - 1)\ndeep(995)", "completed 0"),
    "warning": ("import warnings\nwarnings.warn('careful')", "completed 0"),
    "late": (
        "import atexit, sys\n"
        "def late():\n"
        "    print('late', '__file__' in globals(), getattr(sys, 'last_value', None))\n"
        "    print(sys.excepthook is sys.__excepthook__)\n"
        "atexit.register(late)\n"
        "class Freed:\n    def __del__(self): print('freed')\n"
        "kept = Freed()\n"
        "raise KeyboardInterrupt if sys.argv[1:] else ValueError('x')",
        "stopped by ValueError 1",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_it_ends_as_under_python(programs: Programs, name: str) -> None:
    source, ending = ENDINGS[name]
    programs.write("run.py", source)
    programs.both("run.py")
    assert programs.endings == [f"{ending} True"]


def test_what_python_itself_stumbles_over_gives_its_exit_code(programs: Programs) -> None:
    """Newer versions also write that they do, each in other words."""
    programs.write("large.py", "import sys; sys.exit(2**80)")
    programs.write("odd.py", "class Odd:\n    def __str__(self): 1 / 0\nraise SystemExit(Odd())")
    for name, code in (("large.py", 255), ("odd.py", 1)):
        assert programs.python(name).code == programs.profkit(name).code == code
        assert programs.endings == [f"exit code {code} {code} True"]


@pytest.mark.parametrize("name", ["exception", "syntax", "interrupt", "exit text", "late"])
def test_it_ends_as_under_python_as_a_module(programs: Programs, name: str) -> None:
    source, ending = ENDINGS[name]
    programs.write("run.py", source)
    programs.write("folder/__main__.py", source)
    for arguments in (["-m", "run"], ["folder"]):
        programs.both(*arguments, merged=True)
        assert programs.endings == [f"{ending} True"]


def test_the_order_on_a_terminal_is_the_same(programs: Programs) -> None:
    programs.write("run.py", "print('first')\nraise ValueError")
    seen = programs.both("run.py", merged=True)
    assert seen.stdout.index("first") < seen.stdout.index("Traceback")
    programs.write("run.py", "import sys\nprint('first')\nsys.exit('last')")
    assert programs.both("run.py", merged=True).stdout == "first\nlast\n"
    told = {"AT_END": "print('REPORT', file=sys.stderr)"}
    programs.write("run.py", "print('first')\nraise ValueError")
    seen = programs.profkit("run.py", merged=True, environment=told)
    assert seen.stdout.startswith("first\nTraceback")
    assert seen.stdout.endswith("ValueError\nREPORT\n")


def test_ctrl_c_kills_as_it_would(programs: Programs) -> None:
    source = (
        "import atexit, threading, time\natexit.register(print, 'at exit', flush=True)\n"
        "threading.Timer(0.3, print, ['ready'], {'flush': True}).start()\ntime.sleep(60)"
    )
    programs.write("run.py", source)
    for arguments in (["run.py"], ["-m", "run"]):
        seen = programs.both(*arguments, interrupted=True)
        assert (seen.code, seen.stdout) == (-2, "ready\nat exit\n")
        assert "KeyboardInterrupt" in seen.stderr
        assert programs.endings == ["interrupted (Ctrl-C) -2 True"]


def test_ctrl_c_while_a_thread_trains_stops_the_waiting(programs: Programs) -> None:
    programs.write(
        "run.py",
        "import threading, time\n"
        "def train():\n"
        "    while threading.main_thread().is_alive():\n        time.sleep(0.01)\n"
        "    time.sleep(0.1)\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "threading.Thread(target=train).start()\n",
    )
    seen = programs.both("run.py", interrupted=True)
    assert (seen.code, seen.stdout) == (0, "ready\n")
    assert "KeyboardInterrupt" in seen.stderr
    assert programs.endings == ["interrupted (Ctrl-C) 0 True"]


def test_threads_are_waited_for_before_the_end_is_told(programs: Programs) -> None:
    programs.write(
        "run.py",
        "import os, threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def train(name):\n"
        "    time.sleep(0.2)\n"
        "    print(name, os.path.exists(os.environ['ENDINGS']), '__file__' in globals())\n"
        "thread = threading.Thread(target=train, args=['thread'])\n"
        "thread.start()\n"
        "ThreadPoolExecutor().submit(lambda: (thread.join(), train('executor')))\n"
        "raise ValueError\n",
    )
    seen = programs.both("run.py")
    assert seen.stdout == "thread False False\nexecutor False False\n"
    assert programs.endings == ["stopped by ValueError 1 True"]


def test_what_runs_at_the_end_may_still_import_anything(programs: Programs) -> None:
    programs.write("run.py", "import threading")
    act = {"AT_END": "import concurrent.futures.thread, concurrent.futures.process"}
    assert programs.profkit("run.py", environment=act) == programs.python("run.py")


def test_what_fails_at_the_end_changes_nothing(programs: Programs) -> None:
    for name in ("end", "exit 3", "exception", "interrupt"):
        source, ending = ENDINGS[name]
        programs.write("run.py", source)
        alone = programs.python("run.py")
        for act in (
            "raise ValueError('two\\n\\x1b lines')",
            "sys.exit(9)",
            "raise KeyboardInterrupt",
        ):
            seen = programs.profkit("run.py", environment={"AT_END": act})
            assert (seen.code, seen.stdout) == (alone.code, alone.stdout)
            assert seen.stderr.startswith(alone.stderr)
            (line,) = seen.stderr[len(alone.stderr) :].splitlines()
            assert line.startswith("profkit: could not finish the run: ")
            assert line.isprintable()
            assert programs.endings == [f"{ending} True"]


FORKS = {
    "falls off": "pass",
    "sys.exit": "sys.exit(4)",
    "raises": "raise ValueError('child')",
    "os._exit": "os._exit(5)",
    "interrupted": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("name", FORKS)
def test_a_forked_child_ends_by_itself_and_tells_nothing(programs: Programs, name: str) -> None:
    programs.write(
        "run.py",
        "import atexit, os, sys, time\n"
        "atexit.register(lambda: print('at exit', os.getpid() == parent, flush=True))\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child:\n"
        "    status = os.waitpid(child, 0)[1]\n"
        "    print(status, os.path.exists(os.environ['ENDINGS']), flush=True)\n"
        f"else:\n    {FORKS[name]}\n",
    )
    seen = programs.both("run.py")
    assert "False\nat exit True" in seen.stdout
    assert programs.endings == ["completed 0 True"]


def test_os_exit_is_told_and_still_immediate(programs: Programs) -> None:
    programs.write("run.py", "import atexit, os; atexit.register(print, 'no'); os._exit(6)")
    assert programs.both("run.py").code == 6
    assert programs.endings == ["ended by os._exit(6) 6 True"]
    programs.write(
        "run.py", "import os\ntry:\n    os._exit('x')\nexcept TypeError as e:\n    print(e)"
    )
    assert programs.both("run.py").code == 0
    assert programs.endings == ["completed 0 True"]
    programs.write("run.py", "import atexit, os; atexit.register(os._exit, 8)")
    assert programs.both("run.py").code == 8
    assert programs.endings == ["completed 0 True"]
    programs.write(
        "run.py",
        "import os, threading\nthreading.Thread(target=os._exit, args=[3]).start()\n"
        "import time; time.sleep(60)",
    )
    assert programs.both("run.py").code == 3
    assert programs.endings == ["ended by os._exit(3) 3 True"]


def test_a_full_disk_is_reported_by_python_alone(programs: Programs) -> None:
    programs.write("run.py", "import sys; sys.stdout = open('/dev/full', 'w'); print('lost')")
    seen = programs.both("run.py")
    assert "No space left" in seen.stderr
    assert programs.endings == ["completed 0 True"]
