"""A loop on a fake time that stands still at the end of each block."""

from profkit.probe.pacer import Pacer
from profkit.schema.steps import StepTable
from scripted_loop import ScriptedLoop

FORWARD, PAUSE = 100, 1_000_000


class Told:
    """What a pacer says, and the sizes of the blocks that it is given."""

    def __init__(self, loop: ScriptedLoop, sizes: list[int]) -> None:
        self._loop = loop
        self._sizes = sizes
        self.warm_ns: list[int] = []
        self.blocks: list[StepTable] = []

    def ready(self, step_ns: int) -> int:
        self.warm_ns.append(step_ns)
        return self._next()

    def done(self, steps: StepTable, drain_ns: int) -> int:
        assert drain_ns == 0
        self.blocks.append(steps)
        return self._next()

    def _next(self) -> int:
        self._loop.time.pass_ns(PAUSE)
        return self._sizes.pop(0)


def test_blocks_have_the_steps_that_were_asked_for_and_pauses_are_in_none() -> None:
    loop = ScriptedLoop(period_ns=10**18)
    told = Told(loop, [3, 2, 4, 100])
    pacer = Pacer(loop.clock, 5, told.ready, told.done)
    loop.clock._sink = pacer.gather
    loop.clock.witness = pacer
    for _ in loop.loader(range(30), wait_ns=7):
        loop.forward(FORWARD)
        loop.backward(FORWARD)
    assert told.warm_ns == [2 * FORWARD + 7]
    assert [len(block) for block in told.blocks] == [3, 2, 4]
    assert {int(ns) for block in told.blocks for ns in block.step_ns} == {2 * FORWARD + 7}


def test_batches_that_train_nothing_belong_to_a_block_but_do_not_count() -> None:
    loop = ScriptedLoop(period_ns=10**18)
    told = Told(loop, [2, 100])
    pacer = Pacer(loop.clock, 1, told.ready, told.done)
    loop.clock._sink = pacer.gather
    loop.clock.witness = pacer
    for number, _ in enumerate(loop.loader(range(12))):
        loop.forward(FORWARD)
        if number in (0, 4, 8):
            loop.backward(FORWARD)
    assert [len(block) for block in told.blocks] == [8]
