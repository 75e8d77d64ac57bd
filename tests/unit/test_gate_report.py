"""What a gate found, as people and CI systems read it."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from test_hostile_names import NAMES, poisoned, shape

from gates import MS, findings, ratio, regression, share, version
from profkit.render.gate import print_gate, render_gate_json, render_gate_markdown
from profkit.render.gate_words import explanation, remarks, verdict_word
from profkit.render.junit import render_junit
from profkit.render.units import beside_limit
from profkit.schema.decision import Outcome
from profkit.schema.estimate import Estimate
from profkit.schema.gate import GateFindings, StageChange
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage

GOLDEN = Path(__file__).parent.parent / "golden"
COMMAND = "profkit check --base-ref main -- train.py --epochs 1"
ABOVE, BELOW, INCONCLUSIVE = Outcome.ABOVE, Outcome.BELOW, Outcome.INCONCLUSIVE


def printed(found: GateFindings) -> str:
    stream = io.StringIO()
    print_gate(found, Console(file=stream, width=120))
    return stream.getvalue()


def test_the_report_reads_well(request: pytest.FixtureRequest) -> None:
    text = render_gate_markdown(regression(), COMMAND)
    golden = GOLDEN / "check.md"
    if request.config.getoption("--write-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


WORDS = {
    "a regression": (regression(), "REGRESSION"),
    "a share above its limit": (findings(ABOVE, share(0.3, 0.2, ABOVE)), "OVER BUDGET"),
    "within": (
        findings(BELOW, ratio(1.01, 0.01, 1.05, BELOW, "typical step")),
        "within the limits",
    ),
    "not clear": (
        findings(INCONCLUSIVE, ratio(1.05, 0.01, 1.05, INCONCLUSIVE, "typical step")),
        "INCONCLUSIVE",
    ),
    "nothing judged": (findings(INCONCLUSIVE), "INCONCLUSIVE"),
    "no base": (
        findings(INCONCLUSIVE, share(0.2, 0.2, INCONCLUSIVE), with_base=False),
        "INCONCLUSIVE",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_the_first_line_says_the_verdict(case: str) -> None:
    found, word = WORDS[case]
    assert verdict_word(found) == word
    assert render_gate_markdown(found).splitlines()[0] == f"# profkit check: {word}"
    assert f"\n{word}: " in printed(found)


def test_every_limit_stands_in_the_table_with_value_and_interval() -> None:
    text = render_gate_markdown(regression())
    assert "| typical step | +11.4 % (95 %: +10.3 to +12.5) | +5.0 % | above the limit |" in text
    assert "| mean step | +12.0 % (95 %: +10.0 to +14.0) | +10.0 % | inconclusive |" in text
    assert "throughput" not in text + printed(regression())  # up would sound good
    assert "| share of dataloader | 17.0 % (95 %: 16.0 to 18.0) | 20.0 % | within |" in text
    assert "| forward | 3 | 4.2 | +1.2 | +40.0 % (95 %: +38.0 to +42.0) |" in text
    assert "| transfer | – | – | – | – |" in text


def test_one_sees_on_which_side_of_its_limit_a_value_lies() -> None:
    assert beside_limit(Estimate(0.203, 0.2011, 0.205, 9), "share") == (
        "20.3 % (95 %: 20.1 to 20.5)"
    )
    assert beside_limit(Estimate(0.984, 0.98, 0.99, 9), "ratio") == "−1.6 % (95 %: −2.0 to −1.0)"
    assert beside_limit(Estimate(2.31, 2.2, 2.42, 9), "ratio") == "2.31× (95 %: 2.2 to 2.42)"
    assert beside_limit(Estimate(1.05, None, None, 0), "ratio") == "+5.0 %"


def test_what_explains_a_change_is_named_and_noise_is_not() -> None:
    assert explanation(regression()) == (
        "the mean step is 1.2 ms longer: forward +1.2 ms, +40.0 % (95 %: +38.0 to +42.0)"
    )
    unsure = replace(
        regression(), changes=(StageChange(Stage.FORWARD, 1.2 * MS, Estimate(1.4, 0.9, 1.9, 9)),)
    )
    assert explanation(unsure) == "no stage alone stands out of the noise"
    new = regression().new
    appeared = replace(
        regression(),
        new=replace(new, stage_ns=new.stage_ns | {Stage.TRANSFER: 1.2 * MS}),
        changes=(StageChange(Stage.TRANSFER, 1.2 * MS, None),),
    )
    assert str(explanation(appeared)).endswith("transfer +1.2 ms, not there before")
    # Both have it, but there were too few rounds for a ratio.
    short = replace(regression(), changes=(StageChange(Stage.FORWARD, 1.2 * MS, None),))
    assert explanation(short) == "no stage alone stands out of the noise"
    opposite = replace(
        regression(), changes=(StageChange(Stage.FORWARD, -2 * MS, Estimate(0.5, 0.4, 0.6, 9)),)
    )
    assert explanation(opposite) == "no stage alone stands out of the noise"
    assert explanation(findings(ABOVE, share(0.3, 0.2, ABOVE), with_base=False)) is None
    # Nothing to explain: a share is no change, and what is not clear may be none.
    for other in (share(0.3, 0.2, ABOVE), ratio(1.05, 0.01, 1.05, INCONCLUSIVE, "typical step")):
        assert explanation(replace(findings(other.outcome, other), changes=())) is None


def test_rare_slow_steps_and_other_loaders_are_pointed_out() -> None:
    rare = findings(
        ABOVE,
        ratio(1.2, 0.01, 1.1, ABOVE, "throughput"),
        ratio(1.0, 0.01, 1.05, BELOW, "typical step"),
    )
    assert any("rare slow steps" in text for text in remarks(rare))
    assert not any("rare slow steps" in text for text in remarks(regression()))
    base = replace(version("main", 3.0, None), loader=LoaderFacts("DataLoader", 32, 0, None))
    other = replace(regression(), base=base)
    assert (
        "their loaders differ: main: DataLoader, batch 32, 0 workers; working tree: DataLoader, "
        "batch 64, 2 workers"
    ) in remarks(other)


def test_without_a_base_the_shares_are_shown() -> None:
    found = findings(BELOW, share(0.17, 0.2, BELOW), with_base=False)
    text = render_gate_markdown(found)
    assert "| forward | 4.2 | 36 % |" in text
    assert "in turns" not in text
    assert "within the limits" in printed(found)
    assert json.loads(render_gate_json(found))["base"] is None


def test_the_json_is_complete_and_unrounded() -> None:
    content = json.loads(render_gate_json(replace(regression(), device=None)))
    assert content["schema"] == 1
    assert content["outcome"] == "above"
    assert content["decisions"][0]["value"] == 1.114
    assert content["decisions"][0]["interval"] == [1.114 - 0.011, 1.114 + 0.011]
    assert content["new"]["stage_ns"]["transfer"] is None
    assert content["new"]["stage_ns"]["forward"] == 4.2 * MS
    assert content["changes"][0]["stage"] == "forward"
    assert content["noise"]["drift"] is None
    assert content["device"] is None
    assert content["gaps"] == list(regression().gaps)
    known = set(GateFindings.__dataclass_fields__)
    assert set(content) == known | {"schema", "sentence"}


ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}
"""Of Jenkins' junit-10.xsd: elements and attributes, of which we use some."""


def check_junit(content: bytes) -> ElementTree.Element:
    root = ElementTree.fromstring(content)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ALLOWED[element.tag], element.tag
    (suite,) = root
    assert suite.tag == "testsuite"
    cases = suite.findall("testcase")
    counts = {
        "tests": len(cases),
        "failures": len(suite.findall("testcase/failure")),
        "skipped": len(suite.findall("testcase/skipped")),
        "errors": 0,
    }
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    for case in (suite, *cases):
        assert re.fullmatch(r"[0-9]{1,3}\.[0-9]+", case.attrib["time"])
    return suite


def test_junit_has_a_test_for_each_limit() -> None:
    suite = check_junit(render_junit(regression()))
    assert suite.attrib["name"] == "profkit check"
    assert suite.attrib["time"] == "23.400"
    cases = {case.attrib["name"]: case for case in suite.findall("testcase")}
    assert list(cases) == ["typical step", "mean step", "share of dataloader"]
    (failure,) = cases["typical step"]
    assert failure.tag == "failure"
    assert failure.attrib["message"] == (
        "typical step +11.4 % (95 %: +10.3 to +12.5), limit +5.0 %"
    )
    (skipped,) = cases["mean step"]
    assert skipped.tag == "skipped"
    assert skipped.attrib["message"].startswith("inconclusive: mean step +12.0 %")
    assert not list(cases["share of dataloader"])
    output = suite.findtext("system-out")
    assert output is not None
    assert output.splitlines()[0].startswith("REGRESSION: typical step")
    assert "gap: data: ignored by git" in output


def test_junit_is_not_all_green_where_a_limit_could_not_be_judged() -> None:
    found = replace(findings(INCONCLUSIVE, share(0.1, 0.2, BELOW)), gaps=("never seen",))
    suite = check_junit(render_junit(found))
    (skipped,) = suite.findall("testcase/skipped")
    assert "never seen" in skipped.attrib["message"]
    assert check_junit(render_junit(findings(INCONCLUSIVE))).attrib["tests"] == "1"


@pytest.mark.parametrize("name", NAMES)
def test_names_from_outside_break_no_report(name: str) -> None:
    found = replace(findings(ABOVE, *regression().decisions), gaps=("gap", "another"), device="cpu")
    hostile = poisoned(found, NAMES[name])
    # These two words are profkit's own.
    decisions = tuple(
        replace(one, unit=other.unit)
        for one, other in zip(hostile.decisions, found.decisions, strict=True)
    )
    hostile = replace(hostile, decisions=decisions)
    plain = replace(
        poisoned(found, "plain"),
        decisions=tuple(replace(one, what="plain") for one in found.decisions),
    )
    text = render_gate_markdown(hostile, NAMES[name])
    assert text.replace("\n", "").isprintable()
    assert max(map(len, text.splitlines())) < 3000
    if NAMES[name].strip():
        expected = render_gate_markdown(plain, "plain").splitlines()
        assert [shape(line) for line in text.splitlines()] == [shape(line) for line in expected]
    for line in text.splitlines():
        bare = re.sub("`[^`]*`", "", re.sub(r"\\[!-/:-@\[-`{-~]", "", line))
        assert not re.search(r"<|\]\(|~~|__|`", bare), line
    screen = printed(hostile)
    assert screen.replace("\n", "").isprintable()
    check_junit(render_junit(hostile))
    assert json.loads(render_gate_json(hostile))["new"]["name"] == NAMES[name]
