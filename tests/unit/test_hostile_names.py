"""Names come from files and programs of whoever wrote them: none of them breaks a report."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from conftest import make_manifest, make_steps
from profkit import api
from profkit.errors import InputError
from profkit.render.json_report import render_json
from profkit.render.markdown import render_markdown
from profkit.render.terminal import print_report
from profkit.schema.comparison import PlaceChange, RunsComparison
from profkit.schema.drilldown import Cost, Drilldown
from profkit.schema.findings import EndingKind, Report, RunEnding
from profkit.schema.run import DataFacts, LoaderFacts, ProbeFacts, RunManifest
from profkit.schema.stage import Stage
from profkit.store.names import MANIFEST
from profkit.store.run_directory import create_directory, write_manifest
from profkit.store.streams import RunWriter
from profkit.store.windows import SAMPLES, window_name

NAMES = {
    "table": "a|b||c | --- | d",
    "code": "`x` ```y``` ``",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "heading": "a\n# heading\n\n- item\r\n\x0b\x0c\x85\u2028\u2029> quote",
    "escapes": "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x9b1m\x7f\x00",
    "link": "[text](http://evil) ![image](http://evil) <http://evil>",
    "emphasis": "**bold** __bold__ *it* _it_ ~~gone~~ \\*",
    "mathematics": "$\\frac{$ $x$ \\$",
    "console markup": "[red]x[/red] [/] [link=http://evil]y[/link] :smile:",
    "direction": "abc\u202edcba\u2066x\u2069\u200b\ufeff",
    "long": "x" * 5000,
    "long words": "<b>| " * 1000,
    "nothing": "",
    "only space": " \t\n ",
    "path": "../../etc/passwd\x00",
    "other letters": "模型 🚀 é",
}
KEPT = {"kind", "asked_stage", "probe", "letters"}
"""Fields that say which wording is meant: one of profkit's own words, wherever they come from."""


def poisoned(value: Any, name: str) -> Any:
    """The same with every text in it replaced."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return name
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: old if field.name in KEPT else poisoned(old, name)
            for field in fields(value)
            if (old := getattr(value, field.name)) is not None
        }
        if type(value).__name__ == "Evidence":
            changes["name"] = value.name  # a key, too
        return type(value)(**{**{f.name: None for f in fields(value)}, **changes})
    if isinstance(value, tuple):
        return tuple(poisoned(one, name) for one in value)
    if isinstance(value, dict):
        return {
            (name if type(key) is str else key): poisoned(one, name) for key, one in value.items()
        }
    return value


def make_report(tmp_path: Path) -> Report:
    """A report with a text wherever there can be one."""
    places = []
    for number in range(2):
        manifest = make_manifest(
            f"run {number}",
            workload="cnn",
            group="g",
            data=DataFacts("MNIST", "cache", 1, 1),
            loader=LoaderFacts("Loader", 8, 2, 2),
            gaps=("a gap",),
            probes=(ProbeFacts("clock", 9, 9, 9, "detail"), ProbeFacts("lines", 9, gap="none")),
        )
        place = tmp_path / str(number)
        create_directory(place)
        write_manifest(place, manifest)
        writer = RunWriter(place)
        stages = {Stage.DATALOADER: 4000, Stage.FORWARD: 1000, Stage.OTHER: 9000 // (number + 1)}
        writer.append(make_steps(dict(stages), 70, block=10, noise=0.01))
        writer.close()
        places.append(place)
    report = api.report(*places)
    cost = Cost("name", "file.py:1", 1, 1, 5, 0.5, "context")
    drilldown = tuple(
        Drilldown(probe, Stage.OTHER, 9, (cost, cost), gap, "note")
        for probe, gap in (("samples", None), ("stacks", "gap"), ("torch", None))
    )
    ending = RunEnding(EndingKind.SIGNAL, "terminated", 5)
    runs = []
    for run in report.runs:
        changed = {field.name: getattr(run, field.name) for field in fields(run)}
        runs.append(type(run)(**{**changed, "drilldown": drilldown, "ending": ending}))
    return Report(report.comparison, tuple(runs))


@pytest.mark.parametrize("name", NAMES)
def test_markdown_keeps_its_own_structure(tmp_path: Path, name: str) -> None:
    plain = render_markdown(poisoned(make_report(tmp_path), "plain")).splitlines()
    hostile = render_markdown(poisoned(make_report(tmp_path / "again"), NAMES[name]))
    assert hostile.replace("\n", "").isprintable()
    assert max(map(len, hostile.splitlines())) < 3000
    # Line by line the same: what it is, and how many cells it has.
    if NAMES[name].strip():  # what has no name leaves parts of sentences out
        assert [shape(line) for line in hostile.splitlines()] == [shape(line) for line in plain]
    for line in hostile.splitlines():
        bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)
        assert bare.count("`") in (0, 2), line
        bare = re.sub("`[^`]*`", "", bare)
        assert not re.search(r"<|\]\(|~~|__", bare), line


def shape(line: str) -> tuple[str, int]:
    """How a line begins, and how many cells of a table it has."""
    begin = re.match(r"(#+ |\| |\|-|- |  - |    - |\*\*|)", line)
    assert begin is not None
    bare = re.sub(r"\\.", "", line)
    return begin[0], bare.count("|") if line.startswith("|") else 0


@pytest.mark.parametrize("name", NAMES)
def test_a_terminal_sees_no_escapes_and_no_further_lines(tmp_path: Path, name: str) -> None:
    outputs = []
    for number, text in enumerate(("plain", NAMES[name])):
        stream = io.StringIO()
        print_report(
            poisoned(make_report(tmp_path / str(number)), text), Console(file=stream, width=120)
        )
        outputs.append(stream.getvalue())
    plain, hostile = outputs
    assert hostile.replace("\n", "").isprintable()
    if NAMES[name].strip():
        assert len(hostile.splitlines()) == len(plain.splitlines())
    assert max(map(len, hostile.splitlines())) < 3000


@pytest.mark.parametrize("name", NAMES)
def test_json_holds_the_names_as_they_are(tmp_path: Path, name: str) -> None:
    text = render_json(poisoned(make_report(tmp_path), NAMES[name]))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)  # JSON escapes control characters
    assert json.loads(text)["runs"][0]["run"]["name"] == NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_written_with_its_figures(tmp_path: Path, name: str) -> None:
    report = make_report(tmp_path)
    marks = np.array([[0, 0, 0, 10], [1, 0, 10, 20]], np.int64).T
    runs = []
    for run in report.runs:
        changed = {field.name: getattr(run, field.name) for field in fields(run)}
        runs.append(type(run)(**{**changed, "marks": type(run.marks)(*marks)}))
    written = api.write_report(
        tmp_path / "out", poisoned(Report(report.comparison, tuple(runs)), NAMES[name])
    )
    drawn = sorted((tmp_path / "out" / "figures").iterdir())
    assert len(drawn) == 3
    for path in drawn:
        assert f"](figures/{path.name})" in written.read_text()
        root = ElementTree.fromstring(path.read_text())
        assert not {one.tag.split("}")[1] for one in root.iter()} & {"script", "img", "image", "a"}


def make_comparison(tmp_path: Path, count: int) -> RunsComparison:
    """A comparison with a text wherever there can be one."""
    paths = []
    for number in range(count):
        hardware = make_manifest().environment.hardware
        environment = replace(
            make_manifest().environment,
            hardware=replace(hardware, processor=f"processor {number}"),
            versions={"torch": f"2.{number}"},
        )
        manifest = make_manifest(
            f"run {number}", environment=environment, ended=f"stopped by {number}"
        )
        paths.append(tmp_path / str(number))
        create_directory(paths[-1])
        write_manifest(paths[-1], manifest)
        writer = RunWriter(paths[-1])
        stages = {Stage.FORWARD: 1000, Stage.OTHER: 9000 // (number + 1)}
        writer.append(make_steps(dict(stages), 70, noise=0.01))
        writer.close()
    found = api.compare(*paths, anyway=True)
    if found.pair is None:
        return found
    place = PlaceChange(Stage.OTHER, "samples", "name", "file.py:1", None, 5.0)
    return replace(found, pair=replace(found.pair, place=place))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_keeps_its_structure(tmp_path: Path, name: str, count: int) -> None:
    found = make_comparison(tmp_path, count)
    plain, hostile = (poisoned(found, text) for text in ("plain", NAMES[name]))
    for form in ("md", "terminal"):
        expected = api.render_comparison(plain, form).splitlines()
        shown = api.render_comparison(hostile, form)
        assert shown.replace("\n", "").isprintable()
        assert max(map(len, shown.splitlines())) < 3000
        if not NAMES[name].strip():
            continue
        if form == "terminal":
            assert len(shown.splitlines()) == len(expected)
            continue
        assert [shape(line) for line in shown.splitlines()] == [shape(line) for line in expected]
        for line in shown.splitlines():
            bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)
            assert bare.count("`") in (0, 2), line
            assert not re.search(r"<|\]\(|~~|__", re.sub("`[^`]*`", "", bare)), line
    content = json.loads(api.render_comparison(hostile, "json"))
    assert content["runs"][0]["name"] == NAMES[name]


def test_a_refusal_names_what_differs_in_one_printable_line(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate((NAMES["escapes"], NAMES["long"])):
        hardware = replace(make_manifest().environment.hardware, processor=name)
        environment = replace(make_manifest().environment, hardware=hardware)
        paths.append(tmp_path / str(number))
        create_directory(paths[-1])
        write_manifest(paths[-1], make_manifest(name, environment=environment))
        writer = RunWriter(paths[-1])
        writer.append(make_steps({Stage.FORWARD: 1000}, 40))
        writer.close()
    with pytest.raises(InputError) as refusal:
        api.compare(*paths)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 500


def test_hostile_places_of_samples_are_neutralised(tmp_path: Path) -> None:
    create_directory(tmp_path / "run")
    write_manifest(tmp_path / "run", make_manifest("run", started_at="\x1b[2J"))
    writer = RunWriter(tmp_path / "run")
    writer.append(make_steps({Stage.FORWARD: 1000, Stage.OTHER: 9000}, 40))
    writer.close()
    (tmp_path / "run" / SAMPLES).mkdir()
    evil = "MainThread;main\x1b[31m|`<b>` (/src/app/tr`|\x1b[31m<script>.py:30);[x](y) (/a/b|.py:4)"
    text = f"thread (7): {evil} 7\nthread (7): {evil};\x1b (\x00:1) 9\n"
    (tmp_path / "run" / SAMPLES / window_name(0, "py-spy", 7, 7)).write_text(text)
    report = api.report(tmp_path / "run")
    assert report.runs[0].drilldown
    markdown = api.render_report(report)
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=120))
    for shown in (markdown, stream.getvalue()):
        assert shown.replace("\n", "").isprintable()
    bare = re.sub(r"\\.", "", markdown)
    assert "<" not in bare
    assert "](y)" not in bare
    json.loads(api.render_report(report, "json"))


def test_a_signals_note_that_somebody_wrote_is_one_printable_line(tmp_path: Path) -> None:
    create_directory(tmp_path / "run")
    write_manifest(tmp_path / "run", make_manifest(ended=None))
    note = 'Stack\n  File "/a/\x1b[31m<script>|`\u202e.py", line 999999999999999 in x\n'
    (tmp_path / "run" / "terminated.txt").write_text(note * 5000)
    (run,) = api.report(tmp_path / "run").runs
    (gap,) = [gap for gap in run.gaps if gap.startswith("terminated by SIGTERM in ")]
    assert gap.isprintable()
    assert len(gap) < 300


def test_manifests_cannot_carry_what_is_no_text(tmp_path: Path) -> None:
    """A command line may hold bytes that are no UTF-8: they are replaced before they get there."""
    from profkit.probe.command import shown_command
    from profkit.scripts.target import Target

    target = Target("script", "/data/tr\udcff.py", ("--name", "\udc80"))
    manifest: RunManifest = make_manifest(
        target.stem, command=shown_command([target.name, *target.arguments])
    )
    write_manifest(tmp_path, manifest)
    assert json.loads((tmp_path / MANIFEST).read_text())["command"] == "tr?.py --name ?"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        *[("..", "program"), (".", "program"), ("/", "program"), ("a/.hidden.py", "hidden")],
        *[("x" * 250 + ".py", "x" * 60), ("\udcff.py", "?"), ("train.py", "train")],
    ],
)
def test_a_programs_stem_is_fit_for_a_directory(name: str, stem: str) -> None:
    from profkit.scripts.target import Target

    assert Target("script", name).stem == stem
