"""Limits as people write them, and what is said about them where they cannot be meant."""

from pathlib import Path

import numpy as np
import pytest

from profkit.analyze.share_limits import judge_shares
from profkit.analyze.statistics import Values, share_excess, widen_share_between_processes
from profkit.errors import InputError
from profkit.schema.budget import Budget
from profkit.schema.decision import Outcome
from profkit.schema.estimate import Estimate
from profkit.schema.stage import Stage
from profkit.verify.amounts import seconds_of_text, share_of_text
from profkit.verify.budget import read_budget
from profkit.verify.order import limits_for

SHARES = {
    "5%": 0.05,
    "5 %": 0.05,
    " 5% ": 0.05,
    "0.05": 0.05,
    ".5": 0.5,
    "2.5%": 0.025,
    "100%": 1.0,
    "0.1%": 0.001,
    "5.%": 0.05,
}
NO_SHARES = [
    *("", "five", "nan", "nan%", "inf", "-5%", "-0.05", "0", "0%", "0.0", "1", "101%", "5", "5%%"),
    *("1e-2", "1_0%", "5,5%", "%", "5 percent", "٥%", "0x5", "5% ;", "1" * 400 + "%", "--"),
]


@pytest.mark.parametrize("text", SHARES)
def test_shares_are_read(text: str) -> None:
    assert share_of_text(text) == pytest.approx(SHARES[text])


@pytest.mark.parametrize("text", NO_SHARES)
def test_what_is_no_share_is_refused_in_its_own_words(text: str) -> None:
    with pytest.raises(InputError) as error:
        share_of_text(text)
    assert repr(text) in str(error.value)
    assert "%" in str(error.value)


def test_five_could_be_five_percent_or_five_times() -> None:
    with pytest.raises(InputError, match=r"5% or 5 times: write it as 5% or 0\.05"):
        share_of_text("5")


DURATIONS = {"60s": 60.0, "2min": 120.0, "90": 90.0, "1.5 min": 90.0, "1h": 3600.0, "0.5s": 0.5}
NO_DURATIONS = [
    *("", "nan", "inf", "-5", "0", "0s", "5 m", "sixty", "25h", "1d", "1e3", "60 s s", "1:30"),
    "9" * 400,
]


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_are_read(text: str) -> None:
    assert seconds_of_text(text) == DURATIONS[text]


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"s, 2min or 90|at most 24h") as error:
        seconds_of_text(text)
    assert repr(text) in str(error.value)


def test_a_budget_is_read(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(
        "# limits\n[share]\ndataloader = '20%'\nother = 0.1\n"
        "[ratio]\nstep = 1.05\nthroughput = 1.2\nforward = 2\n"
    )
    assert read_budget(path) == Budget(
        shares={Stage.DATALOADER: 0.2, Stage.OTHER: 0.1},
        step=1.05,
        throughput=1.2,
        stages={Stage.FORWARD: 2.0},
    )


BAD_BUDGETS = {
    "[share]\nloss = 0.2": r"\[share\] loss = 0.2: unknown stage 'loss': use one of dataloader",
    "[share]\nstep = 0.2": "unknown stage 'step'",
    "[share]\ndataloader = 20": r"dataloader = 20: a share is above 0 and below 1",
    "[share]\ndataloader = 0": "dataloader = 0: a share is above 0",
    "[share]\ndataloader = -0.1": "dataloader = -0.1: a share",
    "[share]\ndataloader = nan": "dataloader = nan: a share",
    "[share]\ndataloader = inf": "dataloader = inf: a share",
    "[share]\ndataloader = true": "dataloader = True: write a share",
    "[share]\ndataloader = []": r"dataloader = \[\]: write a share",
    "[share]\ndataloader = '100%'": "'100%': a share is above 0 and below 1",
    "[share]\ndataloader = 'a fifth'": "'a fifth' is no share",
    "[share]\ndataloader = 1979-05-27": "write a share",
    "[ratio]\nforward = '5%'": r"\[ratio\] forward = '5%': write a ratio",
    "[ratio]\nforward = 0": "forward = 0: write a ratio",
    "[ratio]\nforward = nan": "forward = nan: write a ratio",
    "[ratio]\nstep = false": "step = False: write a ratio",
    "[ratio]\nloss = 1.05": "unknown stage 'loss': use one of step, throughput, dataloader",
    "[shares]\ndataloader = 0.2": r"unknown section 'shares': use \[share\] and \[ratio\]",
    "share = 0.2": r"share = 0.2 is no section: write \[share\]",
    "dataloader = 0.2": "unknown section 'dataloader'",
    "": "states no limit",
    "[share]": "states no limit",
    "[share": "is no TOML",
    "[share]\nforward = 0.2\nforward = 0.3": "is no TOML",
}


@pytest.mark.parametrize("text", BAD_BUDGETS)
def test_what_is_wrong_with_a_budget_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=BAD_BUDGETS[text]) as error:
        read_budget(path)
    assert str(path) in str(error.value)


def test_a_budget_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(InputError, match="cannot read the budget"):
            read_budget(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no TOML"):
        read_budget(tmp_path / "binary.toml")


def test_limits_come_from_the_budget_and_the_command_line() -> None:
    shares = Budget(shares={Stage.DATALOADER: 0.2})
    ratios = Budget(step=1.02, stages={Stage.FORWARD: 1.1})
    assert limits_for(None, 0.1, has_base=True) == Budget(step=1.1, throughput=1.2)
    assert limits_for(None, None, has_base=True) == Budget(step=1.05, throughput=1.1)
    assert limits_for(shares, None, has_base=True) == Budget(shares.shares, 1.05, 1.1)
    assert limits_for(shares, None, has_base=False) == shares
    assert limits_for(ratios, None, has_base=True) == ratios
    found = limits_for(Budget(throughput=1.01), 0.1, has_base=True)
    assert (found.step, found.throughput) == (1.1, 1.01)
    for budget, regression, has_base in (
        (None, None, False),
        (None, 0.1, False),
        (shares, 0.1, False),
        (ratios, None, False),
        (ratios, 0.1, True),
    ):
        with pytest.raises(InputError):
            limits_for(budget, regression, has_base=has_base)


def blocks(share: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    wholes = np.exp(draw.normal(0, 0.1, count))
    return wholes * share * np.exp(draw.normal(0, 0.1, count)) / np.exp(0.005), wholes


def test_shares_are_judged_by_their_limits() -> None:
    parts, wholes = blocks(0.3, 60, 1)
    stages = {Stage.DATALOADER: parts, Stage.FORWARD: wholes - parts, Stage.TRANSFER: None}
    limits = {Stage.FORWARD: 0.9, Stage.DATALOADER: 0.2, Stage.TRANSFER: 0.1}
    decisions, gaps = judge_shares(stages, wholes, limits, processes=3)
    assert [(one.what, one.unit, one.limit, one.outcome) for one in decisions] == [
        ("share of dataloader", "share", 0.2, Outcome.ABOVE),
        ("share of forward", "share", 0.9, Outcome.BELOW),
    ]
    assert decisions[0].estimate.value == pytest.approx(0.3, rel=0.05)
    assert len(gaps) == 1  # absent is not zero
    assert "transfer" in gaps[0]


def side(parts: Values, wholes: Values, limit: float, processes: int = 1) -> Outcome:
    excess = share_excess(parts, wholes, limit, processes)
    assert excess is not None
    return excess.side(0.005)


def test_a_share_at_its_limit_is_hardly_ever_called_above_or_below() -> None:
    wrong = sum(
        side(*blocks(0.3, 20, seed), 0.3) is not Outcome.INCONCLUSIVE for seed in range(400)
    )
    assert wrong <= 11  # 4 are expected; more than 11 come up once in 1,000 times


def test_a_share_far_from_its_limit_is_told_and_few_blocks_tell_nothing() -> None:
    parts, wholes = blocks(0.3, 20, 1)
    assert side(parts, wholes, 0.2) is Outcome.ABOVE
    assert side(parts, wholes, 0.4) is Outcome.BELOW
    assert share_excess(parts[:3], wholes[:3], 0.2) is None


def test_blocks_of_few_processes_do_not_tell_what_processes_differ_by() -> None:
    # All blocks alike: what is left is what other process instances would show.
    parts, wholes = np.full(50, 0.5), np.ones(50)
    assert side(parts, wholes, 0.505, processes=1) is Outcome.INCONCLUSIVE
    assert side(parts, wholes, 0.505, processes=100) is Outcome.BELOW
    assert side(parts, wholes, 0.53, processes=1) is Outcome.BELOW
    none = Estimate(0.5, None, None, 2)
    assert widen_share_between_processes(none, 1) == none
