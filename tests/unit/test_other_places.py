"""Places of `other`: made-up stack samples, hostile ones too."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from conftest import make_manifest, make_steps
from profkit import api
from profkit.analyze.other_places import NO_THREAD, NOTHING, other_places
from profkit.render.terminal import print_report
from profkit.schema.drilldown import Drilldown
from profkit.schema.run import ProbeFacts
from profkit.schema.samples import SampleWindow
from profkit.schema.stage import Stage
from profkit.store.run_directory import create_directory, write_manifest
from profkit.store.streams import RunWriter
from profkit.store.windows import SAMPLES, read_windows, window_name

PROFKIT = "/v/lib/python3.11/site-packages/profkit"
TORCH = "/v/lib/python3.11/site-packages/torch"
STDLIB = "/usr/lib/python3.11"
NATIVE, IDENT = 77, 0x7F00AA
RUN = f"<module> ({PROFKIT}/__main__.py:6);run ({PROFKIT}/cli/run.py:9);run_path (<frozen runpy>:2)"
LOOP = f"thread (77): MainThread;{RUN};<module> (/src/app/train.py:90);main (/src/app/train.py:30)"
LOG = f"{LOOP};log_metrics (/src/app/train.py:41)"


def places(*rows: str, source: str = "py-spy") -> Drilldown:
    return other_places([SampleWindow(source, NATIVE, IDENT, "\n".join(rows) + "\n")], 12)


def named(found: Drilldown) -> list[tuple[str, str | None, int]]:
    return [(cost.name, cost.source, cost.count) for cost in found.costs]


def test_a_sample_counts_for_the_innermost_function_of_the_project() -> None:
    found = places(
        f"{LOG} 4",
        f"{LOG};dump ({STDLIB}/json/__init__.py:1);encode ({STDLIB}/json/encoder.py:2) 2",
        f"{LOOP};save (/src/app/train.py:52);save ({TORCH}/serialization.py:9) 2",
    )
    assert named(found) == [
        ("log_metrics", "app/train.py:41", 6),
        ("save", "app/train.py:52", 2),
    ]
    assert [cost.share for cost in found.costs] == [0.75, 0.25]
    assert (found.costs[0].context, found.costs[1].context) == (None, "in save")
    assert (found.probe, found.stage, found.steps) == ("samples", Stage.OTHER, 12)
    assert (found.gap, found.costs[0].self_ns, found.costs[0].total_ns) == (None, None, None)


def test_lines_of_one_function_merge_under_the_most_sampled_one() -> None:
    rows = [f"{LOOP.replace(':30)', f':{line})')} {count}" for line, count in ((30, 5), (33, 7))]
    (cost,) = places(*rows, rows[0].replace(":30)", ":35)").replace(" 5", " 1")).costs
    assert (cost.name, cost.source, cost.count) == ("main", "app/train.py:33", 13)
    assert cost.context == "also line 30"


def test_module_level_code_is_a_place() -> None:
    row = f"thread (77);{RUN};<module> (/src/app/train.py:90);item ({TORCH}/x.py:3) 4"
    assert named(places(row)) == [("<module>", "app/train.py:90", 4)]


def test_what_is_in_a_stage_or_in_profkit_does_not_count() -> None:
    call = f"StageClock.call ({PROFKIT}/probe/marks.py:171)"
    forward = f"profkit_stage_forward ({PROFKIT}/probe/marks.py:229)"
    request = f"Steps._iterate_outermost ({PROFKIT}/probe/steps.py:92)"
    found = places(
        f"{LOOP};{call};{forward};Net.forward (/src/app/net.py:3) 50",
        f"{LOOP};{request};__next__ ({TORCH}/utils/data/dataloader.py:5) 50",
        f"{LOOP};{request};StageClock.flush ({PROFKIT}/probe/marks.py:9);diff (/n.py:1) 50",
        f"{LOOP};StageClock.flush ({PROFKIT}/probe/marks.py:9);diff ({TORCH}/n.py:1) 50",
        f"{LOOP};SampleWindows.tick ({PROFKIT}/probe/x.py:9);poll ({STDLIB}/subprocess.py:1) 50",
        f"{LOOP};Mark.__enter__ ({PROFKIT}/probe/marks.py:60) 50",
        f"{LOG} 2",
    )
    assert named(found) == [("log_metrics", "app/train.py:41", 2)]


def test_what_profkit_was_asked_to_call_counts_for_who_asked() -> None:
    other = f"profkit_stage_other ({PROFKIT}/probe/marks.py:229)"
    wrapper = f"watched ({PROFKIT}/probe/hooks.py:7)"
    found = places(
        f"{LOOP};{other};log_metrics (/src/app/train.py:41) 3",
        f"{LOOP};{wrapper};write ({STDLIB}/codecs.py:7) 2",
    )
    assert named(found) == [("log_metrics", "app/train.py:41", 3), ("main", "app/train.py:30", 2)]


@pytest.mark.parametrize("printed", ["77", "0x7F00AA", "0X7F00AA"])
def test_only_the_training_thread_counts_however_its_number_is_printed(printed: str) -> None:
    found = places(
        f"{LOG} 3".replace("(77)", f"({printed})"),
        "thread (78): Thread-1;busy (/src/app/other.py:3) 900",
        f"thread (0x7F00AB);busy ({STDLIB}/threading.py:3) 900",
    )
    assert named(found) == [("log_metrics", "app/train.py:41", 3)]


def test_each_window_has_its_own_training_thread() -> None:
    first = SampleWindow("py-spy", 1, 1, f"{LOG} 3\n{LOG.replace('(77)', '(1)')} 4\n")
    second = SampleWindow("thread", 77, 2, f"{LOG} 5\n{LOG.replace('(77)', '(1)')} 6\n")
    found = other_places([first, second], 12)
    assert [cost.count for cost in found.costs] == [9]
    assert "taken by a thread" in (found.note or "")


def test_a_stack_of_libraries_alone_counts_for_the_outermost_one_that_is_known() -> None:
    bootstrap = f"Thread._bootstrap ({STDLIB}/threading.py:1002)"
    row = f"thread (77);{RUN};{bootstrap};fit ({TORCH}/trainer.py:8);step ({TORCH}/x.py:9) 4"
    assert named(places(row)) == [("fit", "torch/trainer.py:8", 4)]
    assert named(places(f"thread (77);{bootstrap} 4")) == [
        ("Thread._bootstrap", "threading.py:1002", 4)
    ]


def test_no_sample_of_the_thread_and_none_in_other_are_told_apart() -> None:
    forward = f"profkit_stage_forward ({PROFKIT}/probe/marks.py:229)"
    assert places(f"{LOOP};{forward} 3").gap == NOTHING
    assert places("thread (78): x;busy (/src/app/other.py:3) 9").gap == NO_THREAD
    assert other_places([], 0).gap == NO_THREAD


HOSTILE = {
    "line break in a file": f"{LOOP};evil (/src/a\nb.py:3) 4",
    "bar and markup": f"{LOOP};a|b](http://x)<b> (/src/a|b.py:3) 4",
    "terminal escape": f"{LOOP};evil\x1b[31m (/src/\x1b]0;x\x07.py:3) 4",
    "parentheses": f"{LOOP};f (x);g (y (/src/a.py:3) 4",
    "a thread's name": f"{LOOP.replace('MainThread', 'a;b (c): d')};f (/src/a.py:3) 4",
    "endless line number": f"{LOOP};f (/src/a.py:{'9' * 5000}) 4",
    "endless count": f"{LOG} {'9' * 5000}",
    "not a record": "thread (77 \x00\n;;; 4\nthread (77) (((",
    "endless thread": f"{LOG} 4".replace("77", "7" * 5000),
}


@pytest.mark.parametrize("row", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_hide_nothing_else_and_reach_no_report_raw(row: str, tmp_path: Path) -> None:
    text = f"{LOG} 3\n{row}\n{LOG} 2\n"
    found = other_places([SampleWindow("py-spy", NATIVE, IDENT, text)], 12)
    assert ("log_metrics", "app/train.py:41", 5) in named(found)
    make(tmp_path / "run", text)
    report = api.report(tmp_path / "run")
    markdown = api.render_report(report)
    assert "\x1b" not in markdown
    assert "\x07" not in markdown
    assert "](http" not in markdown.replace("\\]", "")
    for line in markdown.splitlines():
        if line.startswith("| ") and "log\\_metrics" in line:
            assert line.replace("\\|", "").count("|") == 5  # share, samples, where, what
    drilldown = json.loads(api.render_report(report, "json"))["runs"][0]["drilldown"]
    assert drilldown[0]["probe"] == "samples"


def make(run: Path, text: str, stages_ns: dict[Stage, object] | None = None, **facts: int) -> None:
    create_directory(run)
    probes = tuple(ProbeFacts(SAMPLES, steps, 4_000_000_000) for steps in facts.values())
    write_manifest(run, make_manifest(probes=probes))
    writer = RunWriter(run)
    steps = make_steps(stages_ns or {Stage.FORWARD: 920_000, Stage.OTHER: 80_000}, 40)
    writer.append(steps, api.read_run(run).marks)
    writer.close()
    (run / SAMPLES).mkdir()
    (run / SAMPLES / window_name(0, "py-spy", NATIVE, IDENT)).write_text(text)


MIXED = f"{LOG} 6\n{LOOP};save (/src/app/train.py:52) 3\n{LOOP};print_it (/src/app/x.py:1) 1\n"


def test_the_report_says_what_other_is_without_being_asked(tmp_path: Path) -> None:
    make(tmp_path / "run", MIXED, seen=15)
    report = api.report(tmp_path / "run")
    assert report.runs[0].drilldown[0].steps == 15
    text = api.render_report(report)
    # What was seen once is no place to point at.
    line = (
        "other 8.0 %: app/train.py:41 log\\_metrics about 4.8 %, app/train.py:52 save about 2.4 %"
    )
    assert f"\n{line}\n" in text
    assert "- samples: 15 steps left out of the times, windows of 4 s" in text


def test_an_other_bound_run_names_its_place(tmp_path: Path) -> None:
    make(tmp_path / "run", MIXED, {Stage.FORWARD: 500_000, Stage.OTHER: 500_000})
    (run,) = api.report(tmp_path / "run").runs
    assert run.verdicts[0].kind == "other-bound"
    text = api.render_report(api.report(tmp_path / "run"))
    assert "50 % of the step is other: app/train.py:41 log\\_metrics about 30 %" in text


def test_a_run_that_was_killed_has_its_places_too(tmp_path: Path) -> None:
    make(tmp_path / "run", MIXED)
    (run,) = api.report(tmp_path / "run").runs
    assert (run.drilldown[0].probe, run.drilldown[0].steps) == ("samples", 0)


def test_samples_without_the_training_thread_are_a_gap(tmp_path: Path) -> None:
    make(tmp_path / "run", MIXED.replace("(77)", "(78)"))
    (run,) = api.report(tmp_path / "run").runs
    assert (run.drilldown, NO_THREAD in run.gaps) == ((), True)


def test_windows_are_read_in_order_and_foreign_files_are_not(tmp_path: Path) -> None:
    (tmp_path / SAMPLES).mkdir()
    for number in (10, 9):
        name = window_name(number, "thread", 5, 0xABC)
        (tmp_path / SAMPLES / name).write_text(str(number))
    (tmp_path / SAMPLES / "window-1.txt").write_text("no thread in the name")
    found = read_windows(tmp_path)
    assert [window.text for window in found] == ["9", "10"]
    assert replace(found[0], text="") == SampleWindow("thread", 5, 0xABC, "")
    assert read_windows(tmp_path / "none") == ()


def test_the_terminal_says_it_under_the_stages(tmp_path: Path) -> None:
    make(tmp_path / "run", MIXED + f"{LOOP};evil\x1b[31m (/src/b.py:3) 10\n")
    drawn = Console(file=io.StringIO(), width=120)
    print_report(api.report(tmp_path / "run"), drawn)
    text = drawn.file.getvalue()  # type: ignore[attr-defined]
    assert "  other 8.0 %: b.py:3 evil [31m about 4.0 %, app/train.py:41 log_metrics" in text
    assert "\x1b" not in text
