"""The command line of the gate: what it orders, writes and returns. The measuring is made up."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gates import findings, ratio, regression, share
from profkit.cli import cli
from profkit.cli.check import _again, check
from profkit.errors import ProfkitError
from profkit.schema.budget import Budget
from profkit.schema.decision import Outcome
from profkit.schema.gate import GateFindings
from profkit.schema.stage import Stage
from profkit.scripts.target import Target
from profkit.verify import gate
from profkit.verify.order import CheckOrder

README = Path(__file__).parents[2] / "README.md"
ABOVE, BELOW, INCONCLUSIVE = Outcome.ABOVE, Outcome.BELOW, Outcome.INCONCLUSIVE


class Measured:
    """Stands in for the measuring: keeps the orders."""

    def __init__(self) -> None:
        self.orders: list[CheckOrder] = []
        self.result = regression()

    def __call__(self, order: CheckOrder, show: Callable[[str, float], None]) -> GateFindings:
        self.orders.append(order)
        show("measuring", 0.5)
        return self.result


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    stand_in = Measured()
    monkeypatch.setattr(gate, "run_check", stand_in)
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "old.py"):
        Path(name).write_text("")
    return stand_in


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments], standalone_mode=False)


def code(result: Result) -> int:
    """What `main` makes the exit code of."""
    assert result.exception is None, result.exception
    assert isinstance(result.return_value, int)
    return result.return_value


RESULTS = {
    ABOVE: (regression(), 1),
    BELOW: (findings(BELOW, ratio(1.0, 0.01, 1.05, BELOW, "typical step")), 0),
    INCONCLUSIVE: (findings(INCONCLUSIVE, share(0.2, 0.2, INCONCLUSIVE)), 3),
}


@pytest.mark.parametrize("outcome", RESULTS)
def test_the_exit_code_is_the_outcome(measured: Measured, outcome: Outcome) -> None:
    measured.result, expected = RESULTS[outcome]
    result = invoke("--base-ref", "main", "--out", "out", "train.py")
    assert code(result) == expected
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("check.json", "check.md", "junit.xml")
    ]
    assert result.stdout.splitlines()[-3:] == ["out/check.md", "out/junit.xml", "out/check.json"]
    assert json.loads(Path("out/check.json").read_text())["outcome"] == outcome.value
    assert result.stderr == ""  # no progress where nobody looks


def test_everything_asked_for_is_ordered(measured: Measured) -> None:
    Path("budget.toml").write_text("[share]\ndataloader = '20%'\n")
    invoke(
        *("--base", "old.py --lr '0.1 x'", "--budget", "budget.toml", "--max-regression", "10%"),
        *("--max-time", "2min", "--processes", "5", "--threads", "2"),
        *("--", "train.py", "--base", "x", "--", "-y"),
    )
    assert measured.orders == [
        CheckOrder(
            target=Target("script", "train.py", ("--base", "x", "--", "-y")),
            limits=Budget(shares={Stage.DATALOADER: 0.2}, step=1.1, throughput=1.2),
            base=Target("script", "old.py", ("--lr", "0.1 x")),
            max_time_s=120.0,
            processes=5,
            threads=2,
        )
    ]
    assert set(measured.orders[0].thread_variables.values()) == {"2"}


def test_what_is_not_asked_for_has_its_default(measured: Measured) -> None:
    invoke("--base-ref", "main", "train.py")
    assert measured.orders == [
        CheckOrder(
            target=Target("script", "train.py"),
            limits=Budget(step=1.05, throughput=1.1),
            base_ref="main",
            max_time_s=60.0,
            processes=3,
            threads=1,
        )
    ]
    (directory,) = Path("runs").iterdir()
    assert re.fullmatch(r"check-\d{8}-\d{6}", directory.name)


def test_modules_are_run_as_modules(measured: Measured) -> None:
    (Path("package")).mkdir()
    for name in ("__init__", "new", "old"):
        Path("package", f"{name}.py").write_text("")
    invoke("--base", "-m package.old --a", "-m", "package.new", "-m")
    assert measured.orders[0].target == Target("module", "package.new", ("-m",))
    assert measured.orders[0].base == Target("module", "package.old", ("--a",))


def test_a_budget_of_shares_needs_no_base(measured: Measured) -> None:
    Path("budget.toml").write_text("[share]\nother = 0.1\n")
    assert code(invoke("--budget", "budget.toml", "train.py")) == 1
    assert not measured.orders[0].has_base
    assert measured.orders[0].limits == Budget(shares={Stage.OTHER: 0.1})


BAD = {
    "nothing to check against": (),
    "exclude each other": ("--base-ref", "main", "--base", "old.py"),
    "--max-regression needs something to compare with": ("--max-regression", "5%"),
    "which need something to compare with": ("--budget", "ratios.toml"),
    "limit the same": ("--base-ref", "m", "--budget", "ratios.toml", "--max-regression", "5%"),
    "cannot read the budget": ("--budget", "nowhere.toml"),
    "'five' is no share": ("--base-ref", "main", "--max-regression", "five"),
    "'5' could be 5% or 5 times": ("--base-ref", "main", "--max-regression", "5"),
    "'nan' is no duration": ("--base-ref", "main", "--max-time", "nan"),
    "0 is not in the range": ("--base-ref", "main", "--processes", "0"),
    "'' names no script": ("--base", ""),
    "no closing quotation": ("--base", "old.py 'x"),
    "gone.py does not exist": ("--base", "gone.py"),
    "out/check.md already exists": ("--base-ref", "main", "--out", "out"),
    "train.py is no directory": ("--base-ref", "main", "--out", "train.py"),
    "train.py cannot be written to": ("--base-ref", "main", "--out", "train.py/a/b"),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_refused_before_anything_is_measured(measured: Measured, words: str) -> None:
    Path("ratios.toml").write_text("[ratio]\nstep = 1.05\n")
    Path("out").mkdir()
    Path("out/check.md").write_text("precious")
    result = invoke(*BAD[words], "--", "train.py")
    assert isinstance(result.exception, (click.ClickException, ProfkitError)), result.exception
    assert words in str(result.exception) + getattr(result.exception, "message", "")
    assert measured.orders == []
    assert Path("out/check.md").read_text() == "precious"


def test_force_replaces_what_is_named_and_nothing_else(measured: Measured) -> None:
    Path("out").mkdir()
    for name in ("check.md", "notes.txt"):
        Path("out", name).write_text("old")
    assert code(invoke("--base-ref", "main", "--out", "out", "--force", "train.py")) == 1
    assert Path("out/notes.txt").read_text() == "old"
    assert Path("out/check.md").read_text().startswith("# profkit check: REGRESSION")


def test_without_a_place_nothing_is_written(measured: Measured) -> None:
    from profkit import api

    order = CheckOrder(Target("script", "train.py"), Budget(step=1.05), base_ref="main")
    assert api.check(order) is measured.result
    assert sorted(path.name for path in Path().iterdir()) == ["old.py", "train.py"]


def test_the_command_to_repeat_it_is_one(measured: Measured, tmp_path: Path) -> None:
    words = [
        "check",
        "--base",
        f"{tmp_path}/old.py --token s3cret -x 'a b'",
        "--",
        "train.py",
        "c d",
    ]
    again = _again(words)
    assert again == (
        """profkit check --base 'old.py --token '"'"'***'"'"' -x '"'"'a b'"'"'' -- train.py 'c d'"""
    )
    assert shlex.split(shlex.split(again)[3]) == ["old.py", "--token", "***", "-x", "a b"]
    assert _again(["check", "train.py", "--base", "it's"]).startswith("profkit check train.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["profkit", "check", "--base-ref", "main", "train.py"])
        invoke("--base-ref", "main", "--out", "out", "train.py")
    assert "- again: `profkit check --base-ref main train.py`" in Path("out/check.md").read_text()


def test_on_a_terminal_the_time_that_is_left_is_shown(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    check.main(["--base-ref", "main", "train.py"], standalone_mode=False)
    said = capsys.readouterr().err
    assert re.search(r"measuring, at most \d+ s left", said)


def blocks(language: str) -> list[str]:
    section = README.read_text().partition("## A gate for CI")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def parse(command: str) -> dict[str, object]:
    words = shlex.split(command)
    assert words[:2] == ["profkit", "check"]
    with check.make_context("check", words[2:]) as context:
        return context.params


def test_the_workflow_in_the_readme_is_what_the_command_takes() -> None:
    yaml = pytest.importorskip("yaml")
    (text,) = blocks("yaml")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    steps = workflow["jobs"]["check"]["steps"]
    assert steps[0]["with"]["fetch-depth"] == 0
    (gate_step,) = [one for one in steps if one.get("run", "").startswith("profkit")]
    params = parse(gate_step["run"])
    assert (params["base_ref"], params["max_regression"]) == ("origin/$BASE", 0.05)
    assert (params["script"], params["arguments"]) == ("train.py", ())
    assert set(gate_step["env"]) == {"BASE"}
    (summary,) = [one for one in steps if one.get("name") == "summary"]
    assert summary["if"].startswith("always() && ")
    assert f"{params['out']}/check.md" in summary["run"]
    (upload,) = [one for one in steps if "upload-artifact" in one.get("uses", "")]
    assert upload["if"] == "always()"
    assert upload["with"]["path"] == str(params["out"])


def test_the_commands_and_the_budget_in_the_readme_are_what_is_taken(tmp_path: Path) -> None:
    from profkit.verify.budget import read_budget

    for command in blocks(""):
        assert parse(command)["base_ref"] == "main"
    (budget,) = blocks("toml")
    (tmp_path / "budget.toml").write_text(budget)
    found = read_budget(tmp_path / "budget.toml")
    assert found.shares == {Stage.DATALOADER: 0.2, Stage.OTHER: 0.05}
    assert (found.step, found.throughput, found.stages) == (1.05, 1.1, {Stage.FORWARD: 1.1})
