"""Run directories beside each other: the golden Markdown, the command, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import profkit
from conftest import HARDWARE, make_manifest, make_steps
from profkit import api
from profkit.cli import main
from profkit.errors import InputError, RunError
from profkit.schema.run import DataFacts, ProcessFacts
from profkit.schema.stage import Stage
from profkit.schema.steps import StepTable
from profkit.store.run_directory import create_directory, write_manifest, write_set
from profkit.store.streams import RunWriter
from profkit.store.windows import SAMPLES, window_name

GOLDEN = Path(__file__).parent.parent / "golden"
MODEL = {Stage.FORWARD: 1_700_000, Stage.BACKWARD: 1_800_000, Stage.OPTIMIZER: 600_000}
STACKS = """\
thread (7): MainThread;main (/src/app/train.py:30);log_metrics (/src/app/train.py:41) {}
thread (7): MainThread;main (/src/app/train.py:52);save (/v/lib/python3.11/json/__init__.py:9) 8
"""


def write(
    directory: Path,
    stages: dict[Stage, Any] | None = None,
    *,
    count: int = 120,
    warmup: int = 0,
    seed: int = 0,
    samples: int = 64,
    logged: int = 0,
    **changes: Any,
) -> Path:
    """A run directory: its name is the run's."""
    create_directory(directory)
    changes.setdefault("name", directory.name)
    write_manifest(directory, make_manifest(**changes))
    steps: StepTable = make_steps(stages or MODEL, count, warmup=warmup, noise=0.03, seed=seed)
    writer = RunWriter(directory)
    writer.append(replace(steps, samples=steps.samples // 64 * samples))
    writer.close()
    if logged:
        (directory / SAMPLES).mkdir()
        text = STACKS.format(logged)
        (directory / SAMPLES / window_name(0, "py-spy", 7, 7)).write_text(text)
    return directory


def make_pair(place: Path) -> tuple[Path, Path]:
    """A base, and a new run with other threads and versions whose data and logging are slower."""
    environment = make_manifest().environment
    versions = {"python": "3.12.1", "torch": "2.13.0"}
    base = {**MODEL, Stage.DATALOADER: 900_000, Stage.OTHER: 100_000}
    new = {**MODEL, Stage.DATALOADER: 4_000_000, Stage.OTHER: 1_000_000}
    return (
        write(place / "base", base, logged=2),
        write(
            place / "new",
            new,
            seed=1,
            logged=40,
            started_at="2026-01-02T00:00:00+00:00",
            environment=replace(environment, intra_op_threads=1, versions=versions),
            process=ProcessFacts(1, 1.0, "b"),
        ),
    )


def make_three(place: Path) -> list[Path]:
    return [
        write(place / "a", {Stage.FORWARD: 2_000_000}),
        write(place / "b", {Stage.FORWARD: 1_000_000}, seed=1),
        write(place / "c", {Stage.FORWARD: 1_005_000}, seed=2),
    ]


@pytest.mark.parametrize("what", ["compare-two", "compare-three"])
def test_the_comparison_reads_as_it_did(
    tmp_path: Path, what: str, request: pytest.FixtureRequest
) -> None:
    runs = make_pair(tmp_path) if what == "compare-two" else make_three(tmp_path)
    text = profkit.render_comparison(profkit.compare(*runs))
    golden = GOLDEN / f"{what}.md"
    if request.config.getoption("--write-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_form_says_the_same(tmp_path: Path) -> None:
    found = api.compare(*make_pair(tmp_path))
    terminal = api.render_comparison(found, "terminal")
    content = json.loads(api.render_comparison(found, "json"))
    for sentence in content["sentences"]:
        assert sentence in terminal
    assert content["sentences"][0].startswith("result: new is slower than base: mean step +79 % (")
    assert content["pair"]["mean_step"]["shows"] == "slower"
    assert content["pair"]["explained_by"] == ["dataloader", "other"]
    assert content["pair"]["stages"]["transfer"] is None
    assert content["pair"]["place"]["name"] == "log_metrics"
    assert content["runs"][1]["verdict"]["kind"] == "input-bound"
    assert content["ranking"] is None
    with pytest.raises(InputError, match="use one of md, json, terminal"):
        api.render_comparison(found, "html")


def test_the_json_of_three_runs_ranks_them(tmp_path: Path) -> None:
    found = api.compare(*make_three(tmp_path))
    content = json.loads(api.render_comparison(found, "json"))
    assert content["pair"] is None
    ranked = [(one["run"], one["letters"]) for one in content["ranking"]]
    assert ranked == [("b", "a"), ("c", "a"), ("a", "b")]
    assert content["ranking"][0]["ratio"] is None
    low, high = content["ranking"][2]["ratio_interval"]
    assert 1.9 < low < content["ranking"][2]["ratio"] < high < 2.1


def test_the_steps_of_every_run_are_told_however_many_there_are(tmp_path: Path) -> None:
    names = [f"a-run-with-a-name-{number}" for number in range(6)]
    found = api.compare(*(write(tmp_path / name, warmup=5) for name in names))
    for form in ("md", "terminal"):
        text = api.render_comparison(found, form).replace("\n", " ")
        for name in names:
            assert f"{name}: 115 steps (left out: 5 warm-up)" in re.sub(" +", " ", text)


def test_times_that_say_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    base = write(tmp_path / "base", data=DataFacts("MNIST", "the cache", 9, 1))
    environment = make_manifest().environment
    environment = replace(environment, hardware=replace(HARDWARE, processor="Other"))
    data = DataFacts("drawn digits", "the cache", 9, 1)
    new = write(tmp_path / "new", samples=128, environment=environment, data=data)
    with pytest.raises(InputError) as refusal:
        api.compare(base, new)
    message = str(refusal.value)
    for part in (
        "processor Test processor (base), Other (new)",
        "data MNIST (base), drawn digits (new)",
        "batch size 64 (base), 128 (new)",
        "pass --anyway",
    ):
        assert part in message
    assert "\n" not in message
    found = api.compare(base, new, anyway=True)
    lines = api.render_comparison(found, "terminal").splitlines()
    assert "compared anyway: batch size 64 (base), 128 (new)" in lines
    assert lines[0].startswith("result: new is faster than base per sample: ")


def test_other_versions_and_threads_are_told_and_compared(tmp_path: Path) -> None:
    text = api.render_comparison(api.compare(*make_pair(tmp_path)), "terminal")
    for part in (
        "differs: intra-op threads 2 (base), 1 (new)",
        "differs: version of python 3.11.0 (base), 3.12.1 (new)",
        "differs: version of torch not recorded (base), 2.13.0 (new)",
        "recorded: apart (base 2026-01-01T00:00:00+00:00, new 2026-01-02T00:00:00+00:00)",
    ):
        assert part in text


def test_a_directory_stands_for_the_run_in_it(tmp_path: Path) -> None:
    base, new = make_pair(tmp_path / "runs")
    inside = write(tmp_path / "traced" / "train", seed=3)
    write_set(tmp_path / "traced", ("train",))
    assert len(api.compare(base, tmp_path / "traced").runs) == 2
    found = api.compare(tmp_path / "runs")
    assert [run.manifest.name for run in found.runs] == ["base", "new"]
    with pytest.raises(InputError, match=r"runs holds 2 runs: name one of them \(base, new\)"):
        api.compare(inside, tmp_path / "runs")
    assert new.exists()


def test_runs_in_turns_are_told_to_be_that(tmp_path: Path) -> None:
    for seed, name in enumerate(("dataloader", "memory")):
        directory = tmp_path / "traced" / name
        create_directory(directory)
        write_manifest(directory, make_manifest(name, group="g"))
        writer = RunWriter(directory)
        writer.append(make_steps(dict(MODEL), 120, block=10, noise=0.03, seed=seed))
        writer.close()
    write_set(tmp_path / "traced", ("memory", "dataloader"))
    found = api.compare(tmp_path / "traced")
    assert [run.manifest.name for run in found.runs] == ["memory", "dataloader"]
    assert found.in_turns
    assert "recorded: in turns, block by block" in api.render_comparison(found, "terminal")


def test_runs_of_one_name_are_told_apart_by_where_they_lie(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / "one" / "train", name="train"),
        write(tmp_path / "two" / "train", name="train"),
    ]
    assert [run.manifest.name for run in api.compare(*runs).runs] == ["one/train", "two/train"]
    other = write(tmp_path / "train-2", name="train")
    names = [run.manifest.name for run in api.compare(runs[0], other).runs]
    assert names == ["train", "train-2"]


def ranks(place: Path) -> list[Path]:
    write(place / "launch" / "rank-1")
    return [write(place / "launch" / "rank-0"), place / "launch"]


REFUSED: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "one run": (lambda place: [write(place / "a")], "a is one run: name another one"),
    "one run, given twice": (
        lambda place: [write(place / "a"), write(place / "b") / ".." / "a"],
        "is given twice",
    ),
    "the ranks of a launch": (ranks, r"name one rank's directory, such as .*launch/rank-0"),
    "no step": (
        lambda place: [write(place / "a"), write(place / "b", count=4, warmup=4)],
        "b: none of its steps counts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_said(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        api.compare(*make(tmp_path))


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no directory"):
        api.compare(write(tmp_path / "a"), tmp_path / "nowhere")
    with pytest.raises(InputError, match="name two run directories"):
        api.compare()


def test_two_ranks_can_be_compared(tmp_path: Path) -> None:
    one, launch = ranks(tmp_path)
    assert len(api.compare(one, launch / "rank-1").runs) == 2


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["profkit", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main("profkit")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_and_ends_well_whatever_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = make_pair(tmp_path)
    assert command(monkeypatch, base, new) == 0
    shown = capsys.readouterr().out
    assert shown == api.render_comparison(api.compare(base, new), "terminal")
    assert command(monkeypatch, base, new, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_the_command_writes_a_file_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = make_pair(tmp_path)
    target = tmp_path / "compared.md"
    assert command(monkeypatch, base, new, "--format", "md", "-o", target) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_text().startswith("# new beside base\n")
    assert command(monkeypatch, base, new, "-o", target) == 2
    assert "already exists" in capsys.readouterr().err
    assert command(monkeypatch, base, new, "-o", target, "--force") == 0
    assert target.read_text().startswith("result: ")


def test_the_command_refuses_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write(tmp_path / "a"), write(tmp_path / "b", samples=128)
    assert command(monkeypatch, *runs) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("profkit: error: times of runs that differ in batch size 64 (a), ")
    assert command(monkeypatch, *runs, "--anyway") == 0
