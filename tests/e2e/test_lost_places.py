"""The run directory fills up, goes away or closes in the middle: the training does not notice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from observed import EPOCH, QUIET, TRAINING, Observed
from programs import Ended

BEGIN = """
import resource, shutil, warnings
warnings.simplefilter("error")
path = os.path.abspath("run")
# Long enough for a few writes.
print(train(2))
time.sleep(1)
print(train(2, lambda step: time.sleep(0.01)))
"""
ALL = 36 * EPOCH
END = "print(train(30, lambda step: time.sleep(0.001)))\ntime.sleep(1)\nprint(train(2))\n"
FULL = """
with open(os.path.join(path, "filler"), "wb", buffering=0) as filler:
    for size in (4096, 1):
        try:
            while True:
                filler.write(bytes(size))
        except OSError:
            pass
"""
TROUBLES = {
    "none": "",
    "size limit": (
        "at = os.path.getsize('run/steps.arrow') + 1000\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))\n"
    ),
    "removed": "shutil.rmtree(path)\n",
    "made anew": "shutil.rmtree(path)\nos.mkdir(path)\nopen('run/mine', 'w').close()\n",
    "replaced by a file": "shutil.rmtree(path)\nopen(path, 'w').close()\n",
    # A directory's mode does not stop root.
    "closed": "os.chmod(path, 0)\nos.geteuid() or os.seteuid(65534)\n",
    "no descriptors": (
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, hard))\n"
    ),
    "full disk": FULL,
    "read-only": (
        "import subprocess\n"
        "subprocess.run(['mount', '--bind', path, path], check=True)\n"
        "subprocess.run(['mount', '-o', 'remount,ro,bind', path], check=True)\n"
    ),
}
ON_A_MOUNT = ("full disk", "read-only")
REMOVED = "the run directory was removed"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Observed, Ended]]]:
    places = {tmp_path_factory.mktemp("places"): name for name in TROUBLES}
    mounted = []
    for place, name in list(places.items()):
        if name in ON_A_MOUNT:
            (place / "run").mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place / "run")]
            if (
                sys.platform == "linux"
                and not subprocess.run(mount, capture_output=True).returncode
            ):
                mounted.append(place / "run")
            else:
                del places[place]
    try:
        done = Observed.forked(
            {place: BEGIN + TROUBLES[name] + END for place, name in places.items()}
        )
        yield {name: done[place] for place, name in places.items()}
    finally:
        for path in mounted:
            while path.is_mount():
                subprocess.run(["umount", "-l", str(path)], check=True)


def outcome(ended: dict[str, tuple[Observed, Ended]], name: str) -> tuple[Observed, str]:
    """The script and the one line that it got on stderr; it trained as if nothing had been."""
    if name not in ended:
        pytest.skip("needs the right to mount a small disk (root on Linux)")
    scripts, seen = ended[name]
    assert (seen.code, seen.stdout) == (0, ended["none"][1].stdout)
    (line,) = seen.stderr.splitlines()
    assert line.startswith("profkit: ")
    assert line.endswith("; the training goes on")
    return scripts, line


@pytest.mark.parametrize("name", ["none", "no descriptors"])
def test_nothing_is_said_without_need(ended: dict[str, tuple[Observed, Ended]], name: str) -> None:
    scripts, seen = ended[name]
    assert (seen.code, seen.stdout, seen.stderr) == (0, ended["none"][1].stdout, "")
    assert scripts.found.manifest.ended == "completed"
    assert len(scripts.record.steps) == ALL


@pytest.mark.parametrize(
    ("name", "reason"), [("size limit", "File too large"), ("full disk", "No space left on device")]
)
def test_a_full_disk_costs_one_warning_and_leaves_a_report(
    ended: dict[str, tuple[Observed, Ended]], name: str, reason: str
) -> None:
    scripts, line = outcome(ended, name)
    assert line.endswith(f" stopped: {reason}; the training goes on")
    assert any(gap.startswith("writing stopped") and reason in gap for gap in scripts.found.gaps)
    assert scripts.found.manifest.ended == "completed"
    assert len(scripts.record.steps) >= 2 * EPOCH


@pytest.mark.parametrize("name", ["removed", "made anew", "replaced by a file"])
def test_a_directory_that_is_gone_costs_one_warning(
    ended: dict[str, tuple[Observed, Ended]], name: str
) -> None:
    scripts, line = outcome(ended, name)
    assert line.endswith(f" stopped: {REMOVED}; the training goes on")
    if name == "replaced by a file":
        assert scripts.path.read_bytes() == b""
        return
    assert any(gap.startswith("writing stopped") and REMOVED in gap for gap in scripts.found.gaps)
    assert scripts.found.manifest.ended == "completed"
    left = {"run.json"} if name == "removed" else {"run.json", "mine"}
    # A window of samples may fall into a directory that is there again.
    found = set(os.listdir(scripts.path)) - ({"samples"} if name == "made anew" else set())
    assert found == left


def test_a_directory_that_is_closed_leaves_what_was_there(
    ended: dict[str, tuple[Observed, Ended]],
) -> None:
    scripts, line = outcome(ended, "closed")
    assert line.endswith(": Permission denied; the training goes on")
    scripts.path.chmod(0o755)
    assert len(scripts.record.steps) >= 2 * EPOCH
    assert any("nothing could be written any more" in gap for gap in scripts.found.gaps)


def test_a_directory_that_turns_read_only_keeps_its_steps(
    ended: dict[str, tuple[Observed, Ended]],
) -> None:
    scripts, line = outcome(ended, "read-only")
    assert line.endswith(": Read-only file system; the training goes on")
    assert len(scripts.record.steps) == ALL
    assert any("nothing could be written any more" in gap for gap in scripts.found.gaps)


def test_warnings_that_are_errors_stay_outside(tmp_path: Path) -> None:
    scripts = Observed(tmp_path / "work")
    scripts.write("run.py", TRAINING + BEGIN + TROUBLES["removed"] + END)
    seen = scripts.observed("run.py", driver=("-W", "error", *QUIET))
    assert seen.code == 0
    (line,) = seen.stderr.splitlines()
    assert line.endswith("the training goes on")
    assert os.listdir(scripts.path) == ["run.json"]
