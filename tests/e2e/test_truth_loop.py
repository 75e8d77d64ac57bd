import subprocess
import sys
from pathlib import Path

import pytest

from experiments.truth.agreement import STAGES, read_truth

pytestmark = pytest.mark.alone

_STAGE_OF = dict(
    zip(("data", "transfer", "forward", "backward", "optimizer", "logging"), STAGES, strict=True)
)


@pytest.mark.parametrize("kind", ["spin", "sleep", "io"])
def test_what_a_loop_pays_at_a_place_lies_in_that_stage_of_its_truth(
    tmp_path: Path, kind: str
) -> None:
    written = tmp_path / "truth.json"
    costs = [part for place in _STAGE_OF for part in ("--cost", f"{place}:{kind}:1")]
    order = [sys.executable, "-m", "experiments.truth.loop", "--truth", str(written)]
    subprocess.run([*order, "--seconds", "0.2", *costs], check=True, timeout=120)
    truth = read_truth(written)
    assert len(truth.moments) > 0
    assert set(truth.paid) == set(_STAGE_OF)
    assert (truth.moments[1:, 0] >= truth.moments[:-1, -1]).all()
    assert (truth.stage_ns >= 0).all()
    for place, stage in _STAGE_OF.items():
        taken = truth.stage_ns[:, STAGES.index(stage)]
        assert (truth.paid[place] >= 1e6).all(), place  # it took what was asked
        assert (truth.paid[place] <= taken).all(), place


def test_what_workers_pay_is_told_though_the_loop_need_not_wait_for_it(tmp_path: Path) -> None:
    written = tmp_path / "truth.json"
    order = [sys.executable, "-m", "experiments.truth.loop", "--truth", str(written)]
    order += [
        "--workers",
        "1",
        "--epoch",
        "8",
        "--cost",
        "data:sleep:5",
        "--cost",
        "logging:sleep:20",
    ]
    subprocess.run([*order, "--seconds", "0.5"], check=True, timeout=120)
    truth = read_truth(written)
    assert len(truth.moments) > 8  # more than an epoch
    assert (truth.paid["data"] >= 5e6).all()
    assert truth.stage_ns[1:8, 0].min() < truth.paid["data"].min()
