"""Whether a program trains the same under a fix."""

import numpy as np
import pytest

from profkit.schema.fix import FixFacts
from profkit.verify.equivalence import compare_all, compare_bases, compare_fixed
from tunings import BF16, FUSED, MEMORY

FALLING = (2.303, 2.30, 2.29, 2.28, 2.27, 2.26, 2.25, 2.24)
BATCHES = tuple(range(8))


def facts(losses: tuple[float | None, ...], batches: tuple[int, ...] = BATCHES) -> FixFacts:
    return FixFacts({}, batches, losses, "train.py:3")


def scaled(factor: float) -> tuple[float, ...]:
    """The same losses, that change so many times as fast."""
    return tuple(FALLING[0] + factor * (loss - FALLING[0]) for loss in FALLING)


@pytest.mark.parametrize("fix", [FUSED, BF16])
def test_a_fix_under_which_nothing_trains_is_not_the_same(fix: object) -> None:
    found = compare_fixed(facts(FALLING), facts(scaled(0.0)), (fix,))  # type: ignore[arg-type]
    assert found.same is not True
    assert compare_fixed(facts(FALLING), facts(FALLING), (FUSED,)).same is True
    assert compare_fixed(facts(FALLING), facts(scaled(1.1)), (FUSED,)).same is True
    assert compare_fixed(facts(FALLING), facts(scaled(0.5)), (FUSED,)).same is False


def test_it_trains_under_noise_of_the_batches_that_is_in_both() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 8)
    was, still = np.array(FALLING) + noise, np.full(8, 2.303) + noise
    assert compare_fixed(facts(tuple(was)), facts(tuple(was)), (FUSED,)).same is True
    assert compare_fixed(facts(tuple(was)), facts(tuple(still)), (FUSED,)).same is False


@pytest.mark.parametrize("losses", [(2.3,) * 8, (2.3, 2.1, 2.4, 2.2, 2.3, 2.1, 2.4, 2.25)])
def test_where_the_loss_hardly_moves_it_cannot_be_told(losses: tuple[float, ...]) -> None:
    found = compare_fixed(facts(losses), facts(losses), (FUSED,))
    assert found.same is None
    assert "hardly moves" in (found.reason or "")
    # What must be equal to the bit is.
    assert compare_fixed(facts(losses), facts(losses), (MEMORY,)).same is True


def test_as_many_batches_and_losses_must_be_seen() -> None:
    base = facts(FALLING)
    assert compare_fixed(base, facts(FALLING, ()), (MEMORY,)).same is False
    assert compare_fixed(base, facts(FALLING[:1]), (MEMORY,)).same is False
    assert compare_fixed(base, facts(()), (MEMORY,)).same is False
    assert compare_fixed(facts(()), facts(()), (MEMORY,)).same is None
    assert compare_bases(base, facts(FALLING[:5])).same is None
    assert compare_bases(base, base).same is True


def test_one_of_several_instances_is_enough_to_differ() -> None:
    base, other = facts(FALLING), facts(FALLING, (1,) * 8)
    assert compare_all(base, [base, other], (MEMORY,)).same is False
    assert compare_all(base, [base, facts((None,) * 8)], (MEMORY,)).same is None
    assert compare_all(base, [base, base], (MEMORY,)).same is True
