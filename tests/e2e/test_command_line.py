"""The commands as a user meets them: in a process of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profkit.store.records import read_run

pytestmark = pytest.mark.alone

PROFKIT = [sys.executable, "-m", "profkit"]
GOLDEN = Path(__file__).parent.parent / "golden"


def run(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROFKIT, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="session")
def data() -> str:
    """Where MNIST lies; without it these tests train on drawn digits, made once."""
    return os.environ.get("PROFKIT_DATA", "")


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real trace with all probes, for all tests that only read it."""
    place = tmp_path_factory.mktemp("traced")
    # One thread: beside a busy neighbour, two that wait for each other measure the neighbour.
    arguments = ("--stage", "dataloader", "--steps", "40", "--threads", "1", "--out", "out")
    done = run("trace", *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "stdout.txt").write_text(done.stdout)
    (place / "stderr.txt").write_text(done.stderr)
    return place


def shown(traced: Path) -> dict[str, object]:
    report = run("report", "out", "--format", "json", cwd=traced)
    assert report.returncode == 0, report.stderr
    content: dict[str, object] = json.loads(report.stdout)
    return content


def test_the_main_job_says_what_bounds_the_step(traced: Path) -> None:
    text = (traced / "stdout.txt").read_text()
    assert text.splitlines()[-1] == "out"
    assert "verdict, dataloader: input-bound: " in text
    assert re.search(r"in memory the step takes [\d.]+ ms instead of [\d.]+: [\d.]+×", text)
    for line in ("hardware: ", "versions: ", "data: ", "speedup: ", "probes cost: "):
        assert re.search(f"^{line}", text, re.MULTILINE), line
    assert "Traceback" not in (traced / "stderr.txt").read_text()
    assert "USDT" not in text + (traced / "stderr.txt").read_text()


def test_the_directory_holds_what_was_promised(traced: Path) -> None:
    out = traced / "out"
    for source in ("dataloader", "memory"):
        names = {path.name for path in (out / source).iterdir()}
        assert {"run.json", "steps.arrow", "marks.arrow", "passes"} <= names
        assert list((out / "tensorboard" / source).glob("*.pt.trace.json"))
    report = (out / "report.md").read_text()
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", report)
    assert len(links) == 3
    for link in links:
        assert (out / link).read_text().lstrip().startswith("<?xml")
    files = [path.read_bytes()[:2] for path in out.rglob("*") if path.is_file()]
    assert not any(start == b"\x80\x04" or start == b"\x80\x05" for start in files)  # no pickle


def test_the_json_report_keeps_its_contract(traced: Path) -> None:
    report = shown(traced)
    assert report["schema"] == 3
    assert report["comparison"]["speedup"] > 2  # type: ignore[index]
    low, high = report["comparison"]["speedup_interval"]  # type: ignore[index]
    assert low < report["comparison"]["speedup"] < high  # type: ignore[index]
    names = ["dataloader", "transfer", "forward", "backward", "optimizer", "other"]
    for found in report["runs"]:  # type: ignore[attr-defined]
        assert set(found) == {
            "run",
            "steps",
            "stages",
            "verdict",
            "core_wait",
            "drilldown",
            "loader",
            "what_if",
            "overhead",
            "apart",
            "gaps",
        }
        assert found["run"]["ended"] == "completed"
        assert found["steps"]["count"] == 40
        assert set(found["steps"]["step_time_ns"]) >= {"median", "iqr", "p95", "total"}
        assert list(found["stages"]) == names
        assert found["stages"]["transfer"] is None  # on a CPU there is none: absent, not 0
        stages = [stage for stage in found["stages"].values() if stage]
        assert sum(stage["total_ns"] for stage in stages) == found["steps"]["step_time_ns"]["total"]
        assert sum(stage["share"] for stage in stages) == pytest.approx(1)
    verdict = report["runs"][0]["verdict"]  # type: ignore[index]
    assert (verdict["kind"], verdict["stage"]) == ("input-bound", "dataloader")


def test_three_probes_say_where_the_stages_time_goes(traced: Path) -> None:
    found = shown(traced)["runs"][0]  # type: ignore[index]
    probes = {one["probe"]: one for one in found["drilldown"]}
    assert list(probes) == ["torch", "stacks", "lines"]
    gaps = " ".join(found["gaps"])
    for name, probe in probes.items():
        if probe["gap"] is not None and name == "stacks":
            assert "py-spy" in gaps  # no right to look: a stated gap
            continue
        assert 1 <= len(probe["costs"]) <= 11
        assert all(cost["share"] <= 1 for cost in probe["costs"])
    assert any("aten::" in cost["name"] for cost in probes["torch"]["costs"])
    places = [cost["source"] for cost in probes["lines"]["costs"]]
    assert any("torchvision/" in place for place in places)
    assert not any(place.startswith("/") for place in places)


def test_every_stage_can_be_asked_for(tmp_path: Path) -> None:
    done = run("trace", "--source=memory", "--steps=24", "--out=out", "--stage=step", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = shown(tmp_path)["runs"][0]  # type: ignore[index]
    seen = {(one["stage"], one["probe"]) for one in found["drilldown"]}
    (sliced,) = (
        one for one in found["drilldown"] if (one["stage"], one["probe"]) == ("dataloader", "lines")
    )
    # The source that the pass itself started is seen in all of its steps.
    assert max(cost["count"] for cost in sliced["costs"]) >= sliced["steps"]
    assert {("forward", "torch"), ("optimizer", "lines"), ("backward", "torch")} <= seen
    (lines,) = (
        one for one in found["drilldown"] if (one["stage"], one["probe"]) == ("backward", "lines")
    )
    assert "no Python lines" in lines["gap"]
    names = [
        cost["name"]
        for one in found["drilldown"]
        if (one["stage"], one["probe"]) == ("forward", "torch")
        for cost in one["costs"]
    ]
    assert any("addmm" in name for name in names)


@pytest.mark.parametrize(
    ("command", "begin"),
    [("report", "# Where the step's time goes"), ("compare", "result: memory is faster than")],
)
def test_reading_needs_no_torch(traced: Path, command: str, begin: str) -> None:
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
sys.argv = ["profkit", "{command}", "out"]
from profkit.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=traced, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(begin)


def test_the_report_can_be_written_again(traced: Path, tmp_path: Path) -> None:
    target = tmp_path / "again.md"
    done = run("report", traced / "out", "-o", target, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(target))
    again = run("report", traced / "out", "-o", target, cwd=tmp_path)
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_help_is_quick_to_load() -> None:
    code = (
        "import sys, profkit, profkit.cli; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'rich', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    ["", "trace", "run", "check", "report", "compare", "what-if", "tune", "view", "doctor"],
)
def test_help_reads_well(command: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    done = run(*command.split(), "--help", cwd=tmp_path)
    golden = GOLDEN / f"help-{command or 'profkit'}.txt"
    if request.config.getoption("--write-golden"):
        golden.write_text(done.stdout)
    assert done.stdout == golden.read_text()


BAD = {
    "unknown stage": (("trace", "--stage", "loss"), "'loss' is not one of"),
    "unknown workload": (("trace", "--workload", "gpt"), "'gpt' is not one of"),
    "negative steps": (("trace", "--steps", "-3"), "-3 is not in the range"),
    "too many workers": (("trace", "--num-workers", "90"), "use fewer workers"),
    "no number": (("trace", "--steps", "many"), "'many' is not a valid integer"),
    "unknown probe": (("trace", "--probe", "perf"), "'perf' is no probe"),
    "unknown option": (("trace", "--step", "3"), "--step"),
    "unknown option of run": (("run", "--step", "3", "file.txt"), "No such option '--step'"),
    "no such script": (("run", "nowhere.py"), "nowhere.py does not exist"),
    "unknown command": (("tracee",), "tracee"),
    "no such data": (("trace", "--data-dir", "nowhere"), "nowhere"),
    "data is a file": (("trace", "--data-dir", "file.txt"), "file.txt"),
    "data is not MNIST": (("trace", "--data-dir", "full"), "full"),
    "existing output": (("trace", "--out", "full"), "full already exists"),
    "foreign output": (("trace", "--out", "full", "--force"), "was not written by profkit"),
    "output in a file": (("trace", "--out", "file.txt/out"), "choose another path"),
    "no such run": (("report", "nowhere"), "nowhere is no directory"),
    "no run": (("report", "full"), "full holds no run"),
    "a run of the future": (("report", "future"), "upgrade profkit"),
    "a foreign run": (("report", "foreign"), "damaged or not profkit's"),
    "no run given": (("report",), "RUN"),
    "nothing to check against": (("check", "file.txt"), "--base-ref, --base or --budget"),
    "no such run to compare": (("compare", "nowhere", "full"), "nowhere is no directory"),
    "nothing to compare": (("compare",), "BASE NEW"),
    "nothing to view": (("view", "full"), "full"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_loses_nothing(case: str, tmp_path: Path) -> None:
    arguments, expected = BAD[case]
    (tmp_path / "file.txt").write_text("precious")
    for name, file, content in (
        ("full", "thesis.tex", "years of work"),
        ("future", "run.json", '{"schema": 99}'),
        ("foreign", "run.json", '{"schema": "one"}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(content)
    before = sorted(path for path in tmp_path.rglob("*"))
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert expected in done.stderr
    assert done.stdout == ""
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = run("trace", "--device", "cuda", "--out", "x", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "no CUDA device here: use --device cpu" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def start(place: Path) -> "subprocess.Popen[str]":
    """A trace that is under way: some steps of it are on disk."""
    process = subprocess.Popen(
        [*PROFKIT, "trace", "--steps=3000", "--probe=none", "--out=out"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    steps = [place / "out" / name / "steps.arrow" for name in ("dataloader", "memory")]
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if all(path.exists() and path.stat().st_size > 12_000 for path in steps):
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_trace_that_is_stopped_can_be_read(how: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path)
    process.send_signal(how)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == (130 if how is signal.SIGINT else -how)
    assert "Traceback" not in complaint
    report = shown(tmp_path)
    ended = "stopped by KeyboardInterrupt" if how is signal.SIGINT else None
    for found in report["runs"]:  # type: ignore[attr-defined]
        assert found["run"]["ended"] == ended
        assert found["steps"]["count"] >= 10
    record = read_run(tmp_path / "out" / "dataloader")
    assert (record.steps.stage_ns.sum(axis=1) == record.steps.step_ns).all()
