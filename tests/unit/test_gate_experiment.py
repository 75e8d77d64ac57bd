"""The page about the gate, from made-up checks."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from experiments.gate import page
from experiments.gate import resample as resample_module
from experiments.gate.live import LIMIT, LOOPS, Case
from experiments.gate.page import BUDGET, write_page
from experiments.gate.resample import resample
from gates import regression
from profkit.analyze.gate import Judgement, judge
from profkit.render.gate import render_gate_json
from profkit.schema.decision import Outcome
from profkit.schema.gate import BlockPair, Round


def pair(draw: np.random.Generator, number: int, step_ns: float, count: int = 40) -> list[Round]:
    """Rounds of two instances of the same code, in which steps take so long."""
    bias = draw.normal(0, 0.01)

    def blocks(more: float) -> BlockPair:
        first, second = np.log(step_ns) + more + draw.normal(0, 0.03, 2)
        mean = float(np.exp(first) + np.exp(second)) / 2
        return BlockPair((float(first), float(second)), 20, mean, (None,) * 6)

    return [Round(number, float(row), blocks(0.0), blocks(bias)) for row in range(count)]


def facts(rounds: list[Round], outcome: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_gate_json(regression()))
    found["rounds"] = msgspec.to_builtins(rounds)
    found["case"] = {"outcome": outcome, "wall_s": 20.0}
    # A regression of the throughput comes first.
    found["decisions"] = sorted(found["decisions"], key=lambda one: one["what"] != "throughput")
    return found


def test_the_truth_is_found_in_what_is_drawn() -> None:
    draw = np.random.default_rng(1)
    programs = [[pair(draw, row, step_ns) for row in range(6)] for step_ns in (1e6, 3e7)]
    same = resample(programs, 1.0, BUDGET, 40, seed=1)
    assert same.outcomes[Outcome.ABOVE] == 0
    assert same.outcomes[Outcome.BELOW] > 30
    slower = resample(programs, 1.2, BUDGET, 40, seed=1)
    assert slower.outcomes[Outcome.ABOVE] > 35


def test_a_check_is_drawn_from_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a long step the throughput would not see what a short one takes."""
    draw = np.random.default_rng(2)
    drawn: list[set[int]] = []
    programs = [[pair(draw, row, step_ns, 8) for row in range(3)] for step_ns in (1e3, 1e6, 1e9)]

    def judged(rounds: list[Round], *terms: Any) -> Judgement:
        drawn.append({round(one.new.log_ns[0] / math.log(1e3)) for one in rounds})
        return judge(rounds, *terms)

    monkeypatch.setattr(resample_module, "judge", judged)
    resample(programs, 1.0, BUDGET, 20, seed=1)
    assert all(len(kinds) == 1 for kinds in drawn)
    assert {kind for kinds in drawn for kind in kinds} == {1, 2, 3}


def test_the_page_counts_checks_and_tells_the_typical_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "CHECKS", 5)
    draw = np.random.default_rng(3)
    first, second, _ = LOOPS
    live = [
        (Case(first, 1.0, 0, number), facts([], outcome))
        for number, outcome in enumerate(["within", "within", "inconclusive"])
    ]
    recorded = [
        (
            Case(loop, 1.0, 0, 0, "0.01%"),
            facts([one for row in range(3) for one in pair(draw, row, 1e6, 12)], "within"),
        )
        for loop in (first, second)
    ]
    lines = write_page([*live, *recorded], 1.085, {"FastMLP": [1.09, 1.1, 1.11] * 4})
    assert f"limit {LIMIT}" in "\n".join(lines)
    row = next(line for line in lines if line.startswith("| 1 | quiet | 3 |"))
    assert row.startswith("| 1 | quiet | 3 | 2 | 0 | 1 | ≤ 63 % |")
    assert "1.114" in row
    assert any(line.startswith("| 1 | quiet | 6 |") for line in lines)
