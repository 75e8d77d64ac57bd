"""Real processes, really killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profkit.scripts.signals import note_death, read_death
from profkit.store.death_notes import DEATH_NOTES
from programs import PROJECT

pytestmark = pytest.mark.alone

NOTING = """
import os, sys
from pathlib import Path
from profkit.scripts.signals import note_death
note = note_death(Path("run"))
exec(compile(open("train.py").read(), os.path.abspath("train.py"), "exec"))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def start(place: Path, source: str, **options: object) -> subprocess.Popen[str]:
    (place / "train.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, "-c", NOTING],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def killed(place: Path, source: str, number: signal.Signals, **options: object) -> tuple[int, str]:
    """The exit status, and what was printed after `ready` until a signal ended the process."""
    with start(place, source, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, rest


STUCK = """
import signal, threading, time
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
threading.Timer(0.2, print, ["ready"], {"flush": True}).start()
def train():
    time.sleep(100)
train()
"""


@pytest.mark.parametrize("name", DEATH_NOTES)
def test_a_signal_kills_at_once_and_leaves_where(place: Path, name: str) -> None:
    number = signal.Signals[name]
    assert killed(place, STUCK, number) == (-number, "")
    assert read_death(place / "run", str(place)) == f"terminated by {name} in train.py:6"
    others = {file for other, file in DEATH_NOTES.items() if other != name}
    assert all((place / "run" / file).stat().st_size == 0 for file in others)


def test_other_signals_leave_no_note(place: Path) -> None:
    assert killed(place, STUCK, signal.SIGKILL) == (-signal.SIGKILL, "")
    assert read_death(place / "run") is None


def test_a_handler_that_the_program_sets_later_works(place: Path) -> None:
    source = """
import signal, sys, threading, time
def stop(number, frame):
    note.forget()
    print("handled", signal.getsignal(signal.SIGTERM) is stop, flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
if os.fork() == 0:
    print("child", signal.getsignal(signal.SIGTERM) is stop, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
os.wait()
print("ready", flush=True)
time.sleep(100)
"""
    with start(place, source) as process:
        assert process.stdout is not None
        for line in ("child True\n", "handled True\n", "ready\n"):
            assert process.stdout.readline() == line
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[0] == "handled True\n"
    assert process.returncode == 5
    assert read_death(place / "run") is None


def test_an_ignored_signal_stays_ignored(place: Path) -> None:
    source = """
import os, signal
os.kill(os.getpid(), signal.SIGHUP)
before = sorted(os.listdir("run"))
note.forget()
os.kill(os.getpid(), signal.SIGHUP)
with open("seen.txt", "w") as seen:
    print(before, os.listdir("run"), file=seen)
print("ready", flush=True)
signal.pause()
"""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert killed(place, source, signal.SIGTERM, preexec_fn=ignore) == (-signal.SIGTERM, "")
    assert (place / "seen.txt").read_text() == "['terminated.txt'] []\n"


def test_children_end_by_signals_without_a_note(place: Path) -> None:
    source = """
import multiprocessing, os, signal, time
def work():
    note.forget()
    time.sleep(100)
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
child = os.fork()
if child == 0:
    time.sleep(100)
time.sleep(0.1)
worker.terminate()
os.kill(child, signal.SIGTERM)
worker.join()
print(worker.exitcode, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(sorted(os.listdir("run")))
note.forget()
print(os.listdir("run"))
"""
    with start(place, source) as process:
        printed, _ = process.communicate(timeout=60)
    assert printed == "-15 -15\n['hung-up.txt', 'terminated.txt']\n[]\n"
    assert process.returncode == 0


def test_after_it_is_forgotten_signals_kill_as_before(place: Path) -> None:
    source = (
        "import time\nnote.forget()\nnote.forget()\nprint('ready', flush=True)\ntime.sleep(100)"
    )
    assert killed(place, source, signal.SIGTERM) == (-signal.SIGTERM, "")
    assert list((place / "run").iterdir()) == []


def test_a_program_that_closes_all_files_keeps_its_own(place: Path) -> None:
    source = """
os.closerange(3, 100)
files = [open(f"own-{n}", "w") for n in range(4)]
note.forget()
for file in files:
    print("kept", file=file, flush=True)
"""
    with start(place, source) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert {path.read_text() for path in place.glob("own-*")} == {"kept\n"}


def test_without_a_place_for_it_there_is_no_note(place: Path) -> None:
    note = note_death(place / "nowhere")
    note.forget()
    assert read_death(place / "nowhere") is None


def test_a_note_is_read_with_care(place: Path) -> None:
    note = place / "run" / "terminated.txt"
    note.write_text("")
    assert read_death(place / "run") is None
    note.write_text(
        "Stack (most recent call first):\n"
        '  File "/usr/lib/python3.11/threading.py", line 3 in wait\n'
        '  File "/x/site-packages/torch/nn/module.py", line 9 in forward\n'
        '  File "/home/me/code/train.py", line 41 in step\n'
        '  File "/home/me/code/train.py", line 80 in <module>\n'
    )
    assert read_death(place / "run") == "terminated by SIGTERM in code/train.py:41"
    assert read_death(place / "run", "/home/me/code") == "terminated by SIGTERM in train.py:41"
    note.write_bytes(b'  File "/p/\x1b[31m\xff<b>", line 99999999999999999999 in x\n' * 9_999)
    found = read_death(place / "run")
    assert found is not None
    assert found.isprintable()
    assert len(found) < 140
    note.write_bytes(b"\x80garbage\n")
    assert read_death(place / "run") == "terminated by SIGTERM"
    assert read_death(place / "elsewhere") is None
