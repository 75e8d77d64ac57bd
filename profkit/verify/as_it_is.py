"""The program as it is, which fixes are held against: instances that stay alive all the while."""

import time

from ..analyze.gate import sum_up
from ..errors import InputError
from ..schema.fix import FixFacts
from ..schema.gate import BlockPair
from ..schema.paced import Block, InstanceFacts
from .duel import block_steps
from .equivalence import Likeness, compare_bases
from .instance import GoneError, Instance, LateError, end_all
from .starts import AS_IT_IS, WARMUP_STEPS, Starts

PAIRS = 2
"""Instances of the program as it is, and of it with a fix."""
_START_SHARE = 0.5
"""Of the budget, until the program must have warmed up: else nothing could be tried."""
_SETTLE_S = 5.0
"""How long a block that came too late may go on before its instance is replaced."""


class AsItIs:
    """The program as it is, stopped between its turns.

    Args:
        starts: starts its instances.
        deadline: by `time.monotonic`, for all that is measured.

    Attributes:
        instances: `PAIRS` of them; those that ended were replaced.
        facts: of the first.
        fixes: its first batches and losses.
        likeness: whether they are the same in each.
        blocks: what its steps take.
        start_s: until it was warm.

    Raises:
        InputError: it never trained, or too few steps to be measured.
    """

    def __init__(self, starts: Starts, deadline: float) -> None:
        self._starts = starts
        self.instances: list[Instance] = []
        began = time.monotonic()
        until = began + _START_SHARE * (deadline - began)
        try:
            for _ in range(PAIRS):
                self.instances.append(Instance(starts.launch(*AS_IT_IS)))
                self.instances[-1].start()
            self._meet(until)
            self.start_s = time.monotonic() - began
            self.blocks = self._measure((time.monotonic() + deadline) / 2)
        except GoneError as gone:
            self.end()
            raise InputError(_gone_words(gone)) from None
        except LateError:
            self.end()
            raise InputError(
                f"the program had not trained {WARMUP_STEPS} steps after "
                f"{time.monotonic() - began:.0f} s, which leaves too little to try fixes in: raise "
                "--budget, or see that it trains at all"
            ) from None
        except BaseException:
            self.end()
            raise

    @property
    def workers(self) -> int:
        """Loader workers of each instance."""
        return workers_of(self.facts)

    def make_ready(self, deadline: float) -> None:
        """See that each instance stands still and waits for a block; replace those that do not.

        Raises:
            LateError: the time is up.
            GoneError: the program ended before it was warm.
            SpentError: it was started as often as was said.
        """
        fresh: list[Instance] = []
        for row, one in enumerate(self.instances):
            if one.facts is not None and not one.is_over:
                try:
                    one.settle(min(deadline, time.monotonic() + _SETTLE_S))
                    continue
                except (LateError, GoneError):
                    pass
            one.end()
            self.instances[row] = Instance(self._starts.launch(*AS_IT_IS))
            self.instances[row].start()
            fresh.append(self.instances[row])
        for one in fresh:
            one.wait_until_warm(deadline)

    def end(self) -> None:
        """End all of them."""
        end_all(self.instances)

    def _meet(self, deadline: float) -> None:
        seen: list[tuple[InstanceFacts, FixFacts]] = []
        for one in self.instances:
            facts = one.wait_until_warm(deadline)
            assert facts.fixes is not None  # it was asked
            seen.append((facts, facts.fixes))
        self.facts, self.fixes = seen[0]
        self.likeness: Likeness = compare_bases(seen[0][1], seen[1][1])

    def _measure(self, deadline: float) -> BlockPair:
        steps = block_steps(self.facts.step_ns, self.workers)
        blocks: list[Block] = []
        while len(blocks) < 2:
            began = time.monotonic()
            try:
                made = self.instances[0].run_block(steps, deadline)
            except LateError:
                # How many steps of this block were made, nobody was told.
                trained = WARMUP_STEPS + steps * len(blocks)
                raise InputError(
                    f"the program trained {trained} steps, then not {steps} more within "
                    f"{time.monotonic() - began:.0f} s: it hangs, or its steps get far longer than "
                    f"the {self.facts.step_ns / 1e6:.3g} ms that one took: see that it goes on "
                    "without profkit, or raise --budget"
                ) from None
            blocks.append(Block(*made, self.workers))
        return sum_up(blocks)


def workers_of(facts: InstanceFacts) -> int:
    """Loader workers of an instance."""
    return 0 if facts.loader is None else facts.loader.num_workers or 0


def _gone_words(gone: GoneError) -> str:
    if not str(gone).startswith("completed"):
        return f"the program stops as it is ({gone}): see that it trains here, without profkit"
    return (
        f"the program ended before enough of its steps were seen ({gone}): it must train, for "
        f"more than {WARMUP_STEPS} steps; a few hundred are better, so give it more epochs"
    )
