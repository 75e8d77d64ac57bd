"""`profkit run` beside `python`: the same end, all steps on disk, and a report that says which."""

import re
from pathlib import Path

import pytest

from observed import EPOCH, RUN, TRAINING, Observed
from programs import Ended

pytestmark = pytest.mark.alone


@pytest.fixture
def scripts(tmp_path: Path) -> Observed:
    return Observed(tmp_path / "work")


KILLED = "killed: no end was recorded and its process is gone"
FLUSHED = "time.sleep(1.2)\n"
"""A signal gives nobody the time to write: what is older than a second is there by then."""
ENDINGS = {
    "end": ("train(3)", 0, "completed", ""),
    "sys.exit": ("train(3)\nsys.exit(3)", 3, "exit code 3", ""),
    "exit text": ("train(3)\nsys.exit('no more data')", 1, "exit code 1", "no more data\n"),
    "exception": (
        "class Broken(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x @ torch.zeros(3)\n"
        "train(3)\n"
        "torch.nn.Sequential(model, Broken())(torch.stack(data))",
        1,
        "stopped by RuntimeError",
        "vec (3)\n",
    ),
    "exception in the data": (
        "def collate(items):\n    return {}['image']\n"
        "train(3)\nfor x in DataLoader(data, collate_fn=collate):\n    pass",
        1,
        "stopped by KeyError",
        "KeyError: 'image'\n",
    ),
    "memory": ("train(3)\nbytearray(2**62)", 1, "stopped by MemoryError", "MemoryError\n"),
    "os._exit": ("train(3)\nos._exit(5)", 5, "ended by os._exit(5)", ""),
    "abort": (f"train(3)\n{FLUSHED}os.abort()", -6, KILLED, ""),
    "crash": (f"train(3)\n{FLUSHED}import ctypes\nctypes.string_at(0)", -11, KILLED, ""),
    "SIGTERM": (
        f"import signal\ntrain(3)\n{FLUSHED}os.kill(os.getpid(), signal.SIGTERM)",
        -15,
        "terminated by SIGTERM in ",
        "",
    ),
    "SIGHUP": (
        f"import signal\ntrain(3)\n{FLUSHED}os.kill(os.getpid(), signal.SIGHUP)",
        -1,
        "terminated by SIGHUP in ",
        "",
    ),
    "SIGTERM handled": (
        "import signal\n"
        "def leave(*_):\n    print('saved')\n    sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, leave)\ntrain(3)\nos.kill(os.getpid(), signal.SIGTERM)",
        9,
        "exit code 9",
        "",
    ),
    "SIGTERM handled in a step": (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(4))\n"
        "train(3)\n"
        "train(1, lambda step: step == 8 and os.kill(os.getpid(), signal.SIGTERM))",
        4,
        "ended by os._exit(4)",
        "",
    ),
    "Ctrl-C in a step": (
        "import signal\n"
        "train(3)\ntrain(1, lambda step: step == 8 and os.kill(os.getpid(), signal.SIGINT))",
        -2,
        "interrupted (Ctrl-C)",
        "KeyboardInterrupt\n",
    ),
    "limit of time": (
        # As schedulers do: the handler raises wherever the program is, which goes on.
        "import signal\n"
        "def late(*_):\n    raise TimeoutError\n"
        "signal.signal(signal.SIGALRM, late)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "try:\n    train(10_000)\nexcept TimeoutError:\n    print('late')\n"
        "train(3)",
        0,
        "completed",
        "",
    ),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Observed, Ended]]:
    places = {tmp_path_factory.mktemp("ended"): name for name in ENDINGS}
    ended = Observed.forked({place: ENDINGS[name][0] for place, name in places.items()})
    return {name: ended[place] for place, name in places.items()}


@pytest.mark.parametrize("name", ENDINGS)
def test_however_it_ends_its_steps_are_on_disk(
    ended: dict[str, tuple[Observed, Ended]], name: str
) -> None:
    _, code, ending, stderr = ENDINGS[name]
    scripts, seen = ended[name]
    assert seen.code == code
    assert seen.stderr.endswith(stderr)
    assert bool(seen.stderr) == bool(stderr)
    found = scripts.found
    stated = found.manifest.ended or next(gap for gap in found.gaps if ending in gap)
    assert stated.startswith(ending)
    assert len(scripts.record.steps) >= 3 * EPOCH


@pytest.mark.parametrize("name", ["exception", "exception in the data", "Ctrl-C in a step"])
def test_its_traceback_is_pythons(scripts: Observed, name: str) -> None:
    scripts.write("run.py", TRAINING + ENDINGS[name][0])
    assert "Traceback" in scripts.same("run.py").stderr


def test_ctrl_c_while_nothing_happens(scripts: Observed) -> None:
    scripts.write("run.py", TRAINING + "train(3)\nprint('ready', flush=True)\ntime.sleep(60)")
    seen = scripts.same("run.py", interrupted=True)
    assert (seen.code, seen.stdout) == (-2, "ready\n")
    assert seen.stderr.endswith("KeyboardInterrupt\n")
    assert scripts.found.manifest.ended == "interrupted (Ctrl-C)"


def test_what_profkit_says_stands_around_what_the_program_says(scripts: Observed) -> None:
    scripts.write("run.py", TRAINING + "train(3)\nprint('out')\n1 / 0")
    alone = scripts.python("run.py")
    seen = scripts.observed("run.py", driver=RUN)
    assert (seen.code, seen.stdout) == (alone.code, alone.stdout)
    first, rest = seen.stderr.split("\n", 1)
    assert first == "profkit: recording to run"
    assert rest.startswith(alone.stderr)
    assert "ended, run: stopped by ZeroDivisionError\n" in rest
    assert rest.endswith("profkit: the run is in run\n")


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(scripts: Observed) -> None:
    scripts.write(
        "run.py",
        TRAINING + "train(3)\ntime.sleep(1)\nimport subprocess\n"
        "report = [sys.executable, '-m', 'profkit', 'report', 'run']\n"
        "print(subprocess.run(report, capture_output=True, text=True).stdout)",
    )
    seen = scripts.observed("run.py")
    assert "- ended: still runs: these are its steps so far; its last recorded step" in seen.stdout
    assert "- still runs: " in seen.stdout
    assert scripts.found.manifest.ended == "completed"


def test_a_run_that_is_killed_before_it_imports_torch_is_reported(scripts: Observed) -> None:
    scripts.write("run.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nimport torch")
    assert scripts.observed("run.py").code == -9
    assert any(gap.startswith(KILLED) for gap in scripts.found.gaps)
    assert any(gap.endswith("no step was recorded") for gap in scripts.found.gaps)
    scripts.write("run.py", TRAINING + "train(3)")
    assert scripts.profkit("run.py", driver=(*RUN, "--force")).code == 0
    assert scripts.found.manifest.ended == "completed"


def test_a_program_without_torch_leaves_nothing_behind(scripts: Observed) -> None:
    scripts.write("run.py", "print('out')")
    assert scripts.same("run.py").stdout == "out\n"
    assert not scripts.path.exists()


def test_hostile_names_reach_no_terminal_and_no_report(scripts: Observed) -> None:
    name = "tr|`x`\x1b[31m\n<script>alert(1)</script>\udcff".replace("/", "\u2215") + ".py"
    scripts.write(
        name,
        TRAINING + "evil = 'L\\x1b[31m|`<b>`\\n# x'\n"
        "Loader = type(evil, (DataLoader,), {})\n"
        "for x in Loader(data, batch_size=4):\n"
        "    model(x).sum().backward()\n"
        "raise type(evil, (Exception,), {})\n",
    )
    seen = scripts.observed(name, "--tag", "\x1b]0;x\x07|`", driver=RUN)
    assert seen.code == 1
    start = seen.stderr.index("hardware: ")
    assert seen.stderr[start:].replace("\n", "").isprintable()
    assert "ended, tr|`x`" in seen.stderr
    report = scripts.profkit("run", driver=("-m", "profkit", "report"))
    assert report.code == 0
    assert report.stdout.replace("\n", "").isprintable()
    bare = re.sub(r"\\.", "", re.sub(r"`[^`]*`", "", report.stdout))
    assert "<" not in bare
    assert "\n# x" not in report.stdout


def test_an_error_message_is_one_printable_line(scripts: Observed) -> None:
    seen = scripts.profkit("no\x1b[31m such\n.py", driver=RUN[:3])
    assert seen.code == 2
    (line,) = seen.stderr.splitlines()
    assert line.isprintable()
