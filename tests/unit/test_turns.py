from itertools import islice

import numpy as np
import pytest

from conftest import Gathered
from profkit.analyze.breakdown import block_ids
from profkit.probe.marks import StageClock
from profkit.schema.steps import Flag
from profkit.workloads.turns import Variant, take_turns


class Loop:
    """Stands for a program: epochs of a known length, and a diary that all of them share."""

    def __init__(self, name: str, diary: list[str], epoch: int) -> None:
        self._name, self._diary, self._epoch = name, diary, epoch
        self._left = 0
        self.fed = True

    def run(self, clock: StageClock, count: int, *, warmup: int = 0) -> int:
        self._left = self._left or self._epoch
        self._diary.append(self._name)
        done = sum(1 for _ in clock.steps(islice(range(self._left), count), warmup=warmup))
        self._left -= done
        return done

    def stop_feeding(self) -> None:
        self.fed = False


def turns(
    epoch: int, steps: int, stale: int = 0, seed: int = 0
) -> tuple[list[str], dict[str, Gathered], list[int]]:
    diary: list[str] = []
    kept = {name: Gathered() for name in "ab"}
    variants = [
        Variant(Loop(name, diary, epoch), StageClock(kept[name]), stale if name == "a" else 0)  # type: ignore[arg-type]
        for name in "ab"
    ]
    gained: list[int] = []
    take_turns(variants, steps=steps, block_steps=10, seed=seed, advance=gained.append)
    assert not any(variant.program.fed for variant in variants)  # type: ignore[attr-defined]
    return diary, kept, gained


def active(kept: Gathered) -> np.ndarray:  # type: ignore[type-arg]
    return (kept.steps.flags & int(Flag.WARMUP)) == 0


def test_both_take_turns_in_mirrored_random_order() -> None:
    diary, kept, _ = turns(1000, 80)
    assert diary[:2] == ["a", "b"]  # warm-up
    rounds = ["".join(diary[i : i + 2]) for i in range(2, len(diary), 2)]
    assert len(rounds) == 8
    assert all(
        first == second[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=True)
    )
    assert {"".join(turns(1000, 80, seed=seed)[0]) for seed in range(6)} != {"".join(diary)}
    for one in kept.values():
        assert active(one).sum() == 80
        assert not active(one)[:10].any()


def test_blocks_stay_paired_across_the_ends_of_epochs() -> None:
    _, kept, gained = turns(33, 70)
    ids = [block_ids(one.steps)[active(one)] for one in kept.values()]
    assert ids[0].tolist() == ids[1].tolist()
    sizes = np.bincount(ids[0])
    assert set(sizes[sizes > 0].tolist()) <= {10, 3}
    assert sum(gained) >= 70


@pytest.mark.parametrize("epoch", [1000, 37])
def test_batches_made_during_the_others_block_are_left_out(epoch: int) -> None:
    _, kept, _ = turns(epoch, 60, stale=4)
    steps = kept["a"].steps
    ids = block_ids(steps)
    for block in np.unique(ids)[1:]:
        flags = steps.flags[ids == block] & int(Flag.WARMUP)
        assert (flags[:4] != 0).all()
        assert (flags[4:] == 0).all()
    assert active(kept["a"]).sum() >= 60
    assert active(kept["b"]).sum() > active(kept["a"]).sum()
