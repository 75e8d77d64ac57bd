"""Each rule fires on its case, not on the mirror case, and not without enough data."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_manifest, make_steps
from profkit.analyze.breakdown import break_down
from profkit.diagnose.rules import contended
from profkit.diagnose.situation import Situation
from profkit.diagnose.verdict import add_comparison, judge
from profkit.schema.findings import Comparison, Contention, Estimate
from profkit.schema.stage import Stage

D, T, F, B, P, X = Stage


LETTERS = {"d": D, "t": T, "f": F, "b": B, "p": P, "x": X}


def situation(
    count: int = 60, noise: float = 0.02, device: str = "cpu", **shares: int
) -> Situation:
    stages = {LETTERS[letter]: 1000 * share for letter, share in shares.items()}
    steps = make_steps(dict(stages), count, noise=noise)
    return Situation(make_manifest(device=device), break_down(steps))


@pytest.mark.parametrize(
    ("shares", "kind", "stage", "severity"),
    [
        ({"d": 93, "f": 3, "b": 3, "p": 1}, "input-bound", D, "high"),
        ({"d": 30, "f": 20, "b": 20, "p": 29}, "input-bound", D, "high"),
        ({"d": 1, "f": 45, "b": 45, "p": 9}, "compute-bound", F, "none"),
        ({"d": 1, "t": 40, "f": 20, "b": 20, "p": 19}, "transfer-bound", T, "high"),
        ({"d": 1, "t": 13, "f": 20, "b": 26, "p": 25, "x": 15}, "transfer-bound", T, "moderate"),
        ({"d": 1, "f": 20, "b": 20, "p": 59}, "optimizer-bound", P, "high"),
        ({"d": 1, "f": 22, "b": 22, "p": 22, "x": 33}, "other-bound", X, "high"),
        ({"d": 1, "f": 24, "b": 24, "p": 33, "x": 18}, "optimizer-bound", P, "high"),
        ({"d": 1, "f": 23, "b": 24, "p": 28, "x": 18}, "balanced", None, "none"),
    ],
)
def test_the_main_verdict(
    shares: dict[str, int], kind: str, stage: Stage | None, severity: str
) -> None:
    main = judge(situation(**shares))[0]
    assert (main.kind, main.severity) == (kind, severity)
    if kind != "compute-bound":
        assert main.stage is stage


def test_a_small_data_wait_is_named_beside_the_main_verdict() -> None:
    main, also = judge(situation(d=10, f=45, b=40, p=5))
    assert main.kind == "compute-bound"
    assert (also.kind, also.severity) == ("input-bound", "moderate")


def test_most_of_the_step_in_the_model_comes_before_a_quarter_of_data_wait() -> None:
    kinds = [verdict.kind for verdict in judge(situation(d=25, f=34, b=35, p=6))]
    assert kinds == ["compute-bound", "input-bound"]


def test_no_verdict_without_enough_steps() -> None:
    (verdict,) = judge(situation(count=19, d=93, f=7))
    assert verdict.kind == "insufficient data"
    assert verdict.evidence[0].value == 19


def test_a_number_that_is_all_noise_decides_nothing() -> None:
    stages = {D: [60] * 12 + [1] * 12, F: 40, B: 2}
    steps = make_steps({stage: np.multiply(taken, 1000) for stage, taken in stages.items()}, 24)
    first, would_be, *_ = judge(Situation(make_manifest(), break_down(steps)))
    assert first.kind == "insufficient data"
    assert first.evidence[0].name == f"relative_interval_of_{would_be.evidence[0].name}"
    assert first.evidence[0].value > 0.5


def test_a_noisy_step_time_does_not_hide_a_clear_verdict() -> None:
    assert judge(situation(count=60, noise=0.4, d=93, f=7))[0].kind == "input-bound"


def test_no_steps_at_all_is_insufficient_data() -> None:
    assert judge(situation(count=0, f=1))[0].kind == "insufficient data"


@pytest.mark.parametrize(("idle", "fires"), [(None, False), (0.1, False), (0.9, True)])
def test_on_a_device_a_hidden_wait_is_no_bottleneck(idle: float | None, fires: bool) -> None:
    seen = replace(situation(device="cuda", d=60, f=20, b=20), device_idle_in_wait_share=idle)
    assert any(verdict.kind == "input-bound" for verdict in judge(seen)) is fires


def contention(growth: float, *, workers: int = 2, threads: int = 2, cores: int = 2) -> Contention:
    estimate = Estimate(growth, growth * 0.97, growth * 1.03, 12)
    return Contention(workers, threads, cores, estimate, 4e6 * growth, 4e6)


@pytest.mark.parametrize(
    ("seen", "fires"),
    [
        (contention(8), True),
        (contention(1.3), True),
        (contention(1.2), False),
        (contention(8, workers=1, threads=1), False),
        (None, False),
    ],
)
def test_contention_needs_too_many_threads_and_stages_that_shrink_without_workers(
    seen: Contention | None, fires: bool
) -> None:
    verdict = contended(replace(situation(d=42, f=29, b=29), contention=seen))
    assert (verdict is not None) is fires


@pytest.mark.parametrize(("least", "fires"), [(0.21, True), (0.19, False)])
def test_waits_for_a_core_tell_contention_by_their_lower_end(least: float, fires: bool) -> None:
    wait = Estimate(0.5, least, 0.6, 12)
    growth = Estimate(2.0, 1 / (1 - least), 2.5, 12)
    seen = Contention(2, 2, 2, growth, core_wait=wait)
    verdict = contended(replace(situation(d=42, f=29, b=29), contention=seen))
    assert (verdict is not None) is fires
    if verdict is not None:
        evidence = verdict.evidence[0]
        assert (evidence.name, evidence.value, evidence.limit) == ("core_wait", 0.5, 0.2)


def test_waits_for_a_core_say_nothing_where_a_device_may_be_at_work_meanwhile() -> None:
    seen = Contention(2, 2, 2, Estimate(2.0, 1.8, 2.2, 12), core_wait=Estimate(0.5, 0.45, 0.55, 12))
    on_device = situation(device="cuda", d=2, f=49, b=49)
    assert contended(replace(on_device, contention=seen)) is None
    assert contended(replace(on_device, contention=contention(2))) is not None


def test_waits_for_a_core_that_may_be_half_as_long_are_insufficient_data() -> None:
    seen = Contention(2, 2, 2, Estimate(2.5, 1.3, 10, 12), core_wait=Estimate(0.6, 0.25, 0.9, 12))
    kinds = [v.kind for v in judge(replace(situation(d=2, f=49, b=49), contention=seen))]
    assert kinds == ["insufficient data", "contended"]


def test_contention_comes_before_the_wait_that_it_puts_in_doubt() -> None:
    kinds = [
        verdict.kind
        for verdict in judge(replace(situation(d=62, f=19, b=19), contention=contention(1.4)))
    ]
    assert kinds == ["contended", "input-bound"]


def test_a_contended_model_is_not_called_slow() -> None:
    kinds = [v.kind for v in judge(replace(situation(d=10, f=45, b=45), contention=contention(8)))]
    assert kinds == ["contended", "input-bound"]


def test_the_measured_speedup_goes_to_the_first_verdict_on_the_data_wait() -> None:
    seen = Comparison("a", "b", Estimate(9.0, 8.0, 10.0, 12), 9e6, 1e6)
    found = judge(replace(situation(d=62, f=19, b=19), contention=contention(1.4)))
    told = add_comparison(found, seen)
    assert [any(e.name == "speedup_measured" for e in v.evidence) for v in told] == [True, False]
    (alone,) = add_comparison(judge(situation(d=1, f=20, b=20, p=59)), seen)
    assert not any(e.name == "speedup_measured" for e in alone.evidence)
