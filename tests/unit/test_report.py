"""Reports of made-up runs: the golden Markdown, and what becomes of hostile or broken input."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import make_manifest, make_steps
from profkit import api
from profkit.errors import InputError
from profkit.schema.run import CoreWaits, DataFacts, LoaderFacts, ProbeFacts, RunManifest
from profkit.schema.stage import Stage
from profkit.schema.steps import MarkTable, StepTable
from profkit.store.names import REFERENCE
from profkit.store.run_directory import create_directory, write_manifest, write_set
from profkit.store.streams import RunWriter
from profkit.store.windows import SAMPLES, window_name

GOLDEN = Path(__file__).parent.parent / "golden"

STACKS = """\
thread (7): MainThread;main (/src/app/train.py:30);log_metrics (/src/app/train.py:41) 7
thread (7): MainThread;main (/src/app/train.py:52);save (/v/lib/python3.11/json/__init__.py:9) 2
"""


BUSY = "from the batch to the end of the step the loop waited for a core 30 % of the time"


def write(directory: Path, manifest: RunManifest, steps: StepTable) -> None:
    create_directory(directory)
    write_manifest(directory, manifest)
    writer = RunWriter(directory)
    shown = steps.select(np.arange(min(3, len(steps))))
    cells = [(row, stage) for row in range(len(shown)) for stage in range(6)]
    starts = shown.start_ns[:, None] + np.cumsum(shown.stage_ns, axis=1) - shown.stage_ns
    taken = np.array([shown.stage_ns[cell] for cell in cells], np.int64)
    begin = np.array([starts[cell] for cell in cells], np.int64)
    rows, stages = (np.array(column, np.int64) for column in zip(*cells, strict=True))
    writer.append(steps, MarkTable(rows, stages, begin, begin + taken))
    writer.close()


def make_set(place: Path) -> Path:
    base = make_manifest(
        "dataloader",
        group="g",
        workload="fastmlp",
        command="profkit trace",
        data=DataFacts("MNIST", "PROFKIT_DATA", 60_000, 10_000),
        loader=LoaderFacts("dataloader", 512, 0, None),
        probes=(ProbeFacts("clock", 60, 60 * 9000),),
        gaps=("stacks probe: py-spy may not attach: run as root",),
    )
    memory = replace(
        base,
        name="memory",
        loader=LoaderFacts("memory", 512, None, None),
        gaps=(),
        probes=(*base.probes, ProbeFacts("samples", 450, 2_400_000_000)),
    )
    model = {Stage.FORWARD: 1_700_000, Stage.BACKWARD: 1_800_000, Stage.OPTIMIZER: 600_000}
    slow = {Stage.DATALOADER: 74_000_000, **model, Stage.OTHER: 90_000}
    fast = {Stage.DATALOADER: 300_000, **model, Stage.OTHER: 50_000}
    for manifest, stages in ((base, slow), (memory, fast)):
        steps = make_steps(dict(stages), 70, block=10, warmup=10, noise=0.03)
        write(place / manifest.name, manifest, steps)
    (place / "memory" / SAMPLES).mkdir()
    (place / "memory" / SAMPLES / window_name(0, "py-spy", 7, 7)).write_text(STACKS)
    write_set(place, ("dataloader", "memory"))
    return place


def test_the_report_reads_as_it_did(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = api.render_report(api.report(make_set(tmp_path / "set")))
    golden = GOLDEN / "report.md"
    if request.config.getoption("--write-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_figures_are_linked_and_the_same_every_time(tmp_path: Path) -> None:
    place = make_set(tmp_path / "set")
    found = api.report(place)
    text = api.write_report(place, found).read_text()
    first = {path.name: path.read_bytes() for path in (place / "figures").iterdir()}
    assert sorted(first) == ["stages.svg", "timeline-dataloader.svg", "timeline-memory.svg"]
    assert all(f"](figures/{name})" in text for name in first)
    api.write_report(place, found)
    assert {path.name: path.read_bytes() for path in (place / "figures").iterdir()} == first


def test_names_from_outside_bring_no_markup_and_no_escapes(tmp_path: Path) -> None:
    evil = "a|b\x1b[31m<script>alert(1)</script>\n# heading [x](http://evil)"
    steps = make_steps({Stage.FORWARD: 1000}, 30)
    write(tmp_path / "run", make_manifest(evil, command=evil, gaps=(evil,)), steps)
    text = api.render_report(api.report(tmp_path / "run"))
    assert "\x1b" not in text
    prose = re.sub("`[^`]*`", "", text)  # what stands in a code span is shown as it is
    assert "<script>" not in prose.replace("\\<script", "")
    assert "\n# heading" not in text
    assert "](http" not in prose.replace("\\]", "")
    api.write_report(tmp_path, api.report(tmp_path / "run"))
    assert {path.parent.name for path in tmp_path.rglob("*.svg")} == {"figures"}


def test_a_run_that_was_killed_at_once_is_reported(tmp_path: Path) -> None:
    create_directory(tmp_path / "run")
    write_manifest(tmp_path / "run", make_manifest(ended=None))
    found = api.report(tmp_path / "run")
    assert found.runs[0].verdicts[0].kind == "insufficient data"
    assert any("no end was recorded" in gap for gap in found.runs[0].gaps)
    assert "0 steps to judge by" in api.render_report(found)
    api.write_report(tmp_path / "run", found)


def test_a_damaged_pass_does_not_hide_the_times(tmp_path: Path) -> None:
    manifest = make_manifest(asked_stage="forward", probes=(ProbeFacts("torch", 5),))
    write(tmp_path / "run", manifest, make_steps({Stage.FORWARD: 1000}, 30))
    (tmp_path / "run" / "passes" / "torch").mkdir(parents=True)
    (tmp_path / "run" / "passes" / "torch" / "trace.json.gz").write_bytes(b"\x1f\x8bnot gzip")
    (run,) = api.report(tmp_path / "run").runs
    assert run.verdicts[0].kind == "compute-bound"
    assert any("could not be read" in gap for gap in run.gaps)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "run", make_manifest(), make_steps({Stage.FORWARD: 1000}, 30))
    with pytest.raises(InputError, match="use one of md, json"):
        api.render_report(api.report(tmp_path / "run"), "html")


@pytest.mark.parametrize(
    ("wait", "blocks", "is_said"), [(0.3, 8, True), (0.04, 8, False), (0.3, 3, False)]
)
def test_a_loop_that_waits_for_cores_says_so_in_every_form(
    tmp_path: Path, wait: float, blocks: int, is_said: bool
) -> None:
    waits = CoreWaits(blocks, (1_000,) * blocks, (round(1_000 * wait),) * blocks)
    steps = make_steps({Stage.FORWARD: 1_000_000, Stage.BACKWARD: 1_000_000}, 60)
    write(tmp_path / "run", make_manifest(core_waits=waits), steps)
    found = api.report(tmp_path / "run")
    (shown,) = json.loads(api.render_report(found, "json"))["runs"]
    assert shown["core_wait"]["share"] == pytest.approx(wait)
    assert any(gap.startswith(BUSY) for gap in shown["gaps"]) is is_said
    assert (BUSY in api.render_report(found)) is is_said


def test_the_contended_verdict_tells_how_much_each_stage_grew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    loader = LoaderFacts("dataloader", 64, 2, 2)
    waits = CoreWaits(8, (1_000,) * 8, (400,) * 8)
    slow = {Stage.FORWARD: 39_200_000, Stage.BACKWARD: 12_000_000, Stage.OPTIMIZER: 420_000}
    fast = {Stage.FORWARD: 1_500_000, Stage.BACKWARD: 3_000_000, Stage.OPTIMIZER: 420_000}
    write(run, make_manifest(loader=loader, core_waits=waits), make_steps(dict(slow), 60))
    writer = RunWriter(run)
    writer.append(make_steps(dict(fast), 30), name=REFERENCE)
    writer.close()
    (shown,) = json.loads(api.render_report(api.report(run), "json"))["runs"]
    verdict = shown["verdict"]
    assert verdict["sentence"] == (
        "contended: 2 loader workers and 2 intra-op threads want more than the 2 cores there are: "
        "forward takes 39.2 ms, without workers 1.5; backward 12, without 3; optimizer 0.42, "
        "without 0.42; the loop waits for a core 40 % of the time"
    )
    grown = {one["name"]: one for one in verdict["evidence"]}
    assert list(grown) == [
        *("model_growth", "forward_growth", "backward_growth", "optimizer_growth"),
        *("core_wait", "runnable"),
    ]
    backward = grown["backward_growth"]
    assert (backward["value"], backward["unit"]) == (pytest.approx(4), "ratio")
    assert backward["low"] < 4 < backward["high"]
    assert "what else runs on it" not in verdict["advice"]  # the workers are known to blame


def test_a_run_whose_waits_nobody_looked_at_says_nothing_of_them(tmp_path: Path) -> None:
    steps = make_steps({Stage.FORWARD: 1_000_000, Stage.BACKWARD: 1_000_000}, 60)
    write(tmp_path / "run", make_manifest(), steps)
    (shown,) = json.loads(api.render_report(api.report(tmp_path / "run"), "json"))["runs"]
    assert shown["core_wait"] is None
    assert not any("for a core" in gap for gap in shown["gaps"])
