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
        self.left_in_epoch = 0
        self.skipped = 0
        self.fed = True

    def begin_epoch(self) -> None:
        self.left_in_epoch = self._epoch

    def skip(self, count: int) -> None:
        assert count < self.left_in_epoch
        self.left_in_epoch -= count
        self.skipped += count

    def run(self, clock: StageClock, count: int, *, warmup: int = 0) -> int:
        if not self.left_in_epoch:
            self.begin_epoch()
        self._diary.append(self._name)
        batches = islice(range(self.left_in_epoch), count)
        done = sum(1 for _ in clock.steps(batches, warmup=warmup))
        self.left_in_epoch -= done
        return done

    def stop_feeding(self) -> None:
        self.fed = False


def turns(
    epoch: int, steps: int, workers: int = 0, seed: int = 0
) -> tuple[list[str], dict[str, Gathered], list[int], Loop]:
    diary: list[str] = []
    kept = {name: Gathered() for name in "ab"}
    loops = {name: Loop(name, diary, epoch) for name in "ab"}
    variants = [
        Variant(loops["a"], StageClock(kept["a"]), workers, 2),  # type: ignore[arg-type]
        Variant(loops["b"], StageClock(kept["b"])),  # type: ignore[arg-type]
    ]
    seen: list[int] = []
    take_turns(variants, steps=steps, block_steps=10, seed=seed, advance=seen.append)
    assert not any(loop.fed for loop in loops.values())
    return diary, kept, seen, loops["a"]


def active(kept: Gathered) -> np.ndarray:  # type: ignore[type-arg]
    return (kept.steps.flags & int(Flag.WARMUP)) == 0


def test_both_take_turns_in_mirrored_random_order() -> None:
    diary, kept, _, _ = turns(1000, 80)
    assert diary[:2] == ["a", "b"]  # warm-up
    rounds = ["".join(diary[i : i + 2]) for i in range(2, len(diary), 2)]
    assert len(rounds) == 8
    assert rounds[1::2] == [first[::-1] for first in rounds[::2]]
    assert {"".join(turns(1000, 80, seed=seed)[0]) for seed in range(6)} != {"".join(diary)}
    for one in kept.values():
        assert active(one).sum() == 80
        assert not active(one)[:10].any()


def test_blocks_stay_paired_across_the_ends_of_epochs() -> None:
    _, kept, seen, _ = turns(33, 70)
    ids = [block_ids(one.steps)[active(one)] for one in kept.values()]
    assert ids[0].tolist() == ids[1].tolist()
    sizes = np.bincount(ids[0])
    assert set(sizes[sizes > 0].tolist()) <= {10, 3}
    assert seen == sorted(seen)
    assert seen[-1] >= 70


@pytest.mark.parametrize("epoch", [1000, 37, 7])
def test_batches_made_during_the_others_block_are_taken_untrained(epoch: int) -> None:
    _, kept, _, loop = turns(epoch, 60, workers=2)
    steps = kept["a"].steps
    ids = block_ids(steps)
    blocks = np.unique(ids)
    assert loop.skipped == 4 * blocks.size
    for block in blocks[1:]:
        flags = steps.flags[ids == block] & int(Flag.WARMUP)
        assert (flags[:2] != 0).all()  # the queue is empty: one late batch a worker
        assert (flags[2:] == 0).all()
    for one in kept.values():
        assert active(one).sum() >= 60
    assert ids[-1] == block_ids(kept["b"].steps)[-1]
