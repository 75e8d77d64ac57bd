"""The pytest plugin: fixture, marker, options, outcomes, table and files, in sessions apart."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import scipy.stats  # noqa: F401  # the sessions below forget modules that they import first

import profkit.assertions
import profkit.ledgers
import profkit.pytest_plugin
from profkit.analyze.quantity import Quantity  # noqa: F401

pytestmark = pytest.mark.alone

LOOPS = """
import random, time
import pytest
import profkit

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Loader:
    def __init__(self, seconds):
        self.seconds = seconds

    def __iter__(self):
        for i in range(20):
            spin(self.seconds)
            yield i

def train(batch):
    spin(0.0006)

draw = random.Random(0)

def restless(batch):
    spin(0.0008 * draw.random())
"""
PLUGIN = "profkit.pytest_plugin"
PASSES = """
def test_passes(profkit_measure):
    m = profkit_measure(train, Loader(0.0001))
    profkit.assert_share(m, "dataloader", below=0.5)
    assert m.share("dataloader") < 0.5
"""
FAILS = """
def test_fails(profkit_measure):
    m = profkit_measure(train, Loader(0.003))
    profkit.assert_share(m, "dataloader", below=0.1)
"""
UNSURE = """
def test_unsure(profkit_measure):
    a = profkit_measure(train, Loader(0.0004), name="one")
    profkit.assert_ratio(a, a, below=1.001, rounds=1)
"""


@pytest.fixture(autouse=True)
def quick(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """This tree's modules also in other processes; and no plugins beside the named ones."""
    monkeypatch.setenv("PYTHONPATH", str(Path(profkit.__file__).parents[1]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others take most of the time
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)


def here(pytester: pytest.Pytester, *options: str, **terms: Any) -> pytest.RunResult:
    """A session in this process.

    It is handed the plugin as a module: of a plugin by its name, pytest warns where the session
    around this one has imported it already.
    """
    return pytester.runpytest_inprocess(*options, plugins=[profkit.pytest_plugin], **terms)


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=LOOPS + code)
    return here(pytester, "--profkit-steps=30", "--profkit-warmup=3", *options)


def test_a_failure_says_value_interval_limit_n_stage_and_line(pytester: pytest.Pytester) -> None:
    result = run(pytester, PASSES + FAILS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines_random(
        [
            r">       profkit.assert_share\(m, .dataloader., below=0.1\)",
            r"E .*share of dataloader in train below 10 %: does not hold",
            r"E .*share of dataloader: [\d.]+ % \(95 % interval [\d.]+ to [\d.]+ %\), should be "
            r"below 10 %: fell",
            r"E .*n: \d+ steps in \d+ blocks, \d looks?",
            r"E .*stage data wait: .* of a step of .*",
            r"E .*costliest line: .*test_it.py:\d+ in spin: while .* samples of data wait\)",
        ]
    )
    # The frames of profkit itself are no help.
    result.stdout.no_fnmatch_line("*assertions.py:*")


def test_what_is_used_wrongly_is_said_where_the_test_says_it(pytester: pytest.Pytester) -> None:
    code = """
def fails(batch):
    raise KeyError("labels")

@pytest.mark.parametrize("use", [
    lambda: profkit.measure(train, [1], steps=0),
    lambda: profkit.measure(train, []),
    lambda: profkit.measure(fails, [1]),
    lambda: profkit.assert_share(train, "dataloader", below=0.2),
    lambda: profkit.measure(train, [1]).share("data"),
    lambda: profkit.assert_share(profkit.measure(train, [1]), "data", below=0.2),
    lambda: profkit.assert_share(profkit.measure(train, [1]), "other", below=20),
    lambda: profkit.measure(train, [1]).share("other") < 20,
])
def test_wrong(use):
    use()
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=8)
    result.stdout.fnmatch_lines(["E*InputError: unknown stage 'data': use one of dataloader*"])
    frames = [
        line for line in result.outlines if line.startswith(f"{Path(profkit.__file__).parent}")
    ]
    assert not frames


def test_a_plain_comparison_carries_its_interval(pytester: pytest.Pytester) -> None:
    code = """
def test_wrong(profkit_measure):
    assert profkit_measure(train, Loader(0.0001)).share("other") < 0.5
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert <*share, 95 % *blocks> < 0.5*"])


def test_the_summary_shows_what_was_measured_and_asserted(pytester: pytest.Pytester) -> None:
    result = run(pytester, PASSES + FAILS)
    result.stdout.re_match_lines(
        [
            r"=+ profkit =+",
            r"measured +steps +ms a step \(95 %\) +data wait +transfer +forward .*",
            r"test_it.py::test_passes train +\d+ +[\d.]+ \([\d.]+ to [\d.]+\) +[\d.]+ % +– .*",
            r"test_it.py::test_fails train +\d+ .*",
            r"asserted .*",
            r"ok: share of dataloader in train below 50 % +test_it.py::test_passes .*",
            r"FAILED: share of dataloader in train below 10 % +test_it.py::test_fails .*\d looks?",
        ]
    )


def test_a_run_that_measures_nothing_shows_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_a(): pass")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= profkit =*")


# Inconclusive


def test_inconclusive_is_a_warning_unless_told_otherwise(pytester: pytest.Pytester) -> None:
    result = run(pytester, UNSURE)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*InconclusiveWarning: *one (new) over one (base) below 1.001×: the data cannot tell",
            "inconclusive: step of one (new) over one (base)*",
        ]
    )


@pytest.mark.parametrize("way", ["option", "ini"])
def test_it_stays_one_where_all_warnings_are_errors(pytester: pytest.Pytester, way: str) -> None:
    if way == "ini":
        pytester.makeini("[pytest]\nfilterwarnings = error\n")
    result = run(pytester, UNSURE, *(["-W", "error"] if way == "option" else []))
    result.assert_outcomes(passed=1, warnings=1)


def test_a_filter_that_names_it_counts(pytester: pytest.Pytester) -> None:
    result = run(pytester, UNSURE, "-W", "error::profkit.InconclusiveWarning")
    result.assert_outcomes(failed=1)


def test_inconclusive_can_fail_or_skip(pytester: pytest.Pytester) -> None:
    result = run(pytester, UNSURE, "--profkit-inconclusive=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: profkit: step of one*the data cannot tell"])
    result = run(pytester, UNSURE, "--profkit-inconclusive=skip", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*profkit: step of one*the data cannot tell*"])


# Terms


def test_options_and_marker_set_the_terms(pytester: pytest.Pytester) -> None:
    code = """
from profkit import terms

def test_options(profkit_measure):
    now = terms.current()
    assert (now.steps, now.warmup, now.rounds, now.timeout_s) == (30, 3, 2, 9.5)
    assert profkit.measure(train, range(9)).steps == 30

@pytest.mark.profkit(rounds=3, timeout_s=1)
def test_marker():
    assert (terms.current().rounds, terms.current().timeout_s) == (3, 1)

@pytest.mark.profkit(rounds=None, timeout_s=8)  # as it stands among the markers
def test_none():
    assert (terms.current().rounds, terms.current().timeout_s) == (2, 8)

@pytest.mark.profkit(rounds=5)
class TestClass:
    def test_of_a_class(self):
        assert (terms.current().rounds, terms.current().timeout_s) == (5, 9.5)
"""
    before = profkit.terms.current()
    result = run(pytester, code, "--profkit-rounds=2", "--profkit-timeout=9.5", "--strict-markers")
    result.assert_outcomes(passed=4)
    assert profkit.terms.current() is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("3", "takes no positional argument, got 3"),
        ("round=3", "has no round="),
        ("rounds=0", r"\(rounds=0\) cannot be"),
        ("rounds=2.5", r"\(rounds=2.5\) cannot be"),
        ("rounds=True", r"\(rounds=True\) cannot be"),
        ("timeout_s='1 min'", r"\(timeout_s='1 min'\) cannot be"),
        ("timeout_s=-1", r"\(timeout_s=-1\) cannot be"),
        ("timeout_s=float('inf')", r"\(timeout_s=inf\) cannot be"),
    ],
)
def test_a_wrong_marker_is_one_clear_error(
    pytester: pytest.Pytester, arguments: str, message: str
) -> None:
    result = run(pytester, f"@pytest.mark.profkit({arguments})\ndef test_a(): pass")
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [rf"@pytest.mark.profkit ?.*{message}: use @pytest.mark.profkit.*"]
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--profkit-steps=0", "*--profkit-steps=0: give 1 or more*"),
        ("--profkit-rounds=0", "*--profkit-rounds=0: give 1 or more*"),
        ("--profkit-timeout=0", "*--profkit-timeout=0.0: give a positive number*"),
        ("--profkit-timeout=inf", "*--profkit-timeout=inf: give a positive number*"),
        ("--profkit-save=a/b", "*'a/b' is no name for measurements*"),
        ("--profkit-compare=old", "*nothing is saved as that: none yet*"),
        ("--profkit-json=.", "*is a directory: name a file*"),
        ("--profkit-inconclusive=maybe", "*invalid choice: 'maybe'*"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    result = run(pytester, FAILS, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_the_options_stand_in_the_help_and_the_marker_among_the_markers(
    pytester: pytest.Pytester,
) -> None:
    shown = here(pytester, "--help").stdout
    for name in ("steps", "warmup", "timeout", "rounds", "inconclusive", "json", "save", "compare"):
        shown.fnmatch_lines([f"*--profkit-{name}=*"])
    here(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.profkit(rounds*"])


# Files


def test_json_holds_all_of_it(pytester: pytest.Pytester) -> None:
    elsewhere = "\nimport os\n\ndef test_goes_away(tmp_path): os.chdir(tmp_path)\n"
    result = run(pytester, elsewhere + PASSES + FAILS, "--profkit-json=out/all.json")
    result.stdout.fnmatch_lines(["wrote out/all.json"])
    found = json.loads((pytester.path / "out" / "all.json").read_text())
    assert found["schema"] == 1
    assert [one["test"] for one in found["measured"]] == [
        "test_it.py::test_passes",
        "test_it.py::test_fails",
    ]
    passed, failed = found["asserted"]
    assert (passed["result"], failed["result"]) == ("passed", "failed")
    assert passed["line"] is None
    assert "test_it.py" in failed["line"]
    (decision,) = failed["decisions"]
    assert decision["outcome"] == "above"
    assert decision["limit"] == 0.1 < decision["estimate"]["low"]
    assert found["environment"]["versions"]["profkit"]
    # Another run replaces it, but not just any file.
    assert run(pytester, PASSES, "--profkit-json=out/all.json").ret == 0
    pytester.makefile(".json", precious='{"mine": 1}')
    refused = run(pytester, PASSES, "--profkit-json=precious.json")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def test_what_was_saved_is_kept_and_compared(pytester: pytest.Pytester) -> None:
    result = run(pytester, PASSES, "--profkit-save=base")
    result.stdout.fnmatch_lines(["saved as base: .profkit?base.json"])
    again = run(pytester, PASSES, "--profkit-save=base")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines(["*base.json exists already*"])
    # Thirty times as slow, so that no slow moment then makes up for it.
    slower = (
        """
def test_passes(profkit_measure):
    profkit_measure(train, Loader(0.003))
"""
        + UNSURE
    )
    compared = run(pytester, slower, "--profkit-compare=base")
    compared.assert_outcomes(passed=2, warnings=1)  # it reports, it does not fail
    compared.stdout.re_match_lines(
        [
            r"beside what was saved as base:",
            r" +what +ms now +ms then +ratio \(95 %\)",
            r"test_it.py::test_passes train +step +[\d.]+ +[\d.]+ +[\d.]+ \([\d.]+ to [\d.]+\)",
            r"test_it.py::test_passes train +data wait +[\d.]+ +[\d.]+ +([2-9]|\d\d).*\(.* to .*\)",
            r"not saved: test_it.py::test_unsure one",
        ]
    )


def test_other_versions_than_the_saved_ones_are_named(pytester: pytest.Pytester) -> None:
    run(pytester, PASSES, "--profkit-save=base")
    path = pytester.path / ".profkit" / "base.json"
    saved = json.loads(path.read_text())
    saved["environment"]["versions"]["numpy"] = "0.1"
    saved["environment"]["hardware"]["processor"] = "Abacus"
    path.write_text(json.dumps(saved))
    result = run(pytester, PASSES, "--profkit-compare=base")
    result.stdout.fnmatch_lines(["not the same place*was Abacus*version of numpy*was 0.1*"])


def test_a_saved_file_that_is_damaged_is_said_and_hides_no_result(
    pytester: pytest.Pytester,
) -> None:
    run(pytester, PASSES, "--profkit-save=base")
    (pytester.path / ".profkit" / "base.json").write_text("{")
    result = run(pytester, PASSES, "--profkit-compare=base", "--profkit-save=new")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["measured *", "saved as new: *", "error: *holds no saved measurements*"]
    )


def test_what_cannot_be_written_stands_in_no_other_files_way(pytester: pytest.Pytester) -> None:
    run(pytester, PASSES, "--profkit-save=base")
    block = """
def test_in_the_way(profkit_measure):
    open("out", "w").close()
"""
    files = ("--profkit-json=out/all.json", "--profkit-save=new", "--profkit-compare=base")
    result = run(pytester, PASSES + block, *files)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["error: *all.json*", "saved as new: *", "beside what was saved as base:", "*step *"]
    )


def test_a_run_that_was_broken_off_is_no_base(pytester: pytest.Pytester) -> None:
    stop = """
def test_stops(profkit_measure):
    def interrupts(batch):
        raise KeyboardInterrupt
    profkit_measure(interrupts, range(9))
"""
    pytester.makepyfile(test_it=LOOPS + PASSES + stop)
    result = here(pytester, "--profkit-save=base", "--profkit-json=all.json", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["measured *", "wrote all.json", "the run was broken off, so nothing was saved as base"]
    )
    assert not (pytester.path / ".profkit").exists()


def test_a_run_that_measured_nothing_saves_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_a(): pass", "--profkit-save=base")
    result.stdout.fnmatch_lines(["nothing was measured, so nothing was saved as base"])
    assert not (pytester.path / ".profkit").exists()


# Workers of xdist, by what they find in their environment

MARKED = """
@pytest.fixture
def costly():
    raise AssertionError("set up for nothing")

@pytest.mark.profkit(rounds=2)
def test_marked(costly):
    pass

def test_direct():
    profkit.measure(train, range(9))

def test_measures_nothing():
    pass
"""


def test_beside_other_workers_nothing_is_timed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    result = run(pytester, PASSES + MARKED, "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        ["3 not timed: other workers ran beside them; run with -n 0", "SKIPPED*(4 of xdist here)*"]
    )


def test_who_insists_on_results_gets_failures_there(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    result = run(pytester, PASSES + MARKED, "--profkit-inconclusive=fail")
    result.assert_outcomes(passed=1, failed=1, errors=2)


def test_a_single_worker_times(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "1")
    run(pytester, PASSES).assert_outcomes(passed=1)


def test_what_workers_measured_reaches_the_table(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="needs pytest-xdist, which profkit does not")
    pytester.makepyfile(test_it=LOOPS + PASSES)
    result = pytester.runpytest_subprocess(
        "-p", "xdist", "-p", PLUGIN, "--profkit-json=all.json", "-n", "1"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_passes train*", "ok: share of dataloader*"])
    assert json.loads((pytester.path / "all.json").read_text())["measured"]


# What it costs those who do not use it


def test_the_plugin_loads_nothing_until_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_a(): pass")
    code = (
        "import sys, pytest\n"
        "assert pytest.main(['-q', '-p', 'no:cacheprovider']) == 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'msgspec', 'psutil'} & set(sys.modules)\n"
        "print(sorted(heavy), sorted(one for one in sys.modules if one.startswith('profkit')))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTEST_PLUGINS": PLUGIN,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
    )
    last = shown.stdout.splitlines()[-1]
    light = ["profkit", *(f"profkit.{one}" for one in ("pytest_ledger", "pytest_plugin", "terms"))]
    assert last == f"[] {light}"
