"""What holds for whatever a script does, in whichever order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profkit.probe.partition import LEAVE
from profkit.schema.stage import STAGES
from profkit.schema.steps import Flag
from scripted_loop import Module, ScriptedLoop

keys = st.integers(1, 3)
short = st.integers(0, 9)
MODELS = [Module(), Module()]

actions = st.one_of(
    st.tuples(st.just("pass"), short),
    st.tuples(st.just("request"), keys, short, st.sampled_from(["batch"] * 3 + ["none"])),
    st.tuples(st.just("forward"), short),
    st.tuples(st.just("backward"), short),
    st.tuples(st.just("optimize"), short, keys, st.booleans()),
    st.tuples(st.just("release"), keys),
    st.tuples(st.just("starts_workers"), keys),
    st.tuples(st.just("mark"), st.integers(0, len(STAGES) - 1)),
    st.tuples(st.just("leave")),
    st.tuples(st.sampled_from(["flush", "beat"])),
    st.tuples(st.sampled_from(["waits_for_ranks", "waited_for_ranks"])),
    st.tuples(st.sampled_from(["trains", "evaluates"]), st.integers(0, 1)),
    st.tuples(st.sampled_from(["compilation_begins", "compilation_ends"])),
    st.tuples(st.just("disturb"), st.booleans()),
)


def act(loop: ScriptedLoop, name: str, *values: object) -> None:
    clock = loop.clock
    if name == "pass":
        loop.time.pass_ns(*values)
    elif name == "request":
        key, wait, ending = values
        asked = clock.ask(key)
        loop.time.pass_ns(wait)
        if asked is not None and ending == "batch":
            clock.got([np.zeros((3, 1))], asked)
        elif asked is not None:
            clock.got_none(key, asked)
    elif name == "optimize":
        took, key, nests = values
        loop.optimize(took, key, (lambda: loop.optimize(took, key)) if nests else None)
    elif name in ("trains", "evaluates"):
        if clock.step_is_open:
            getattr(clock, name)(MODELS[values[0]])
    elif name == "mark":
        # Never closed but by a `leave`, in whichever step that comes.
        if clock.step_is_open:
            clock.push((values[0], loop.time()))
    elif name == "leave":
        clock.push((LEAVE, loop.time()))
    elif name in ("forward", "backward"):
        getattr(loop, name)(*values)
    else:
        getattr(clock, name)(*values)


@given(st.lists(actions, max_size=60), st.booleans())
def test_stages_sum_to_their_steps_and_no_two_steps_overlap(
    sequence: list[tuple[object, ...]], watched: bool
) -> None:
    loop = ScriptedLoop(capacity=40, period_ns=100, warmup=2)
    loop.clock.watches_collectives = watched
    began = loop.time()
    for action in sequence:
        act(loop, *action)
        if not loop.clock.busy:
            loop.time.pass_ns(1)
    count = loop.clock.count
    loop.clock.end()
    steps = loop.kept.steps
    assert len(steps) == loop.clock.count
    assert len(steps) in (count, count + 1)
    assert (steps.stage_ns.sum(axis=1) == steps.step_ns).all()
    assert (steps.stage_ns >= 0).all()
    assert (steps.stage_ns[~steps.marked] == 0).all()
    assert (steps.start_ns[1:] >= steps.end_ns[:-1]).all()
    if len(steps):
        assert steps.start_ns[0] >= began
        assert steps.end_ns[-1] <= loop.time()
    if watched and len(steps):
        assert steps.collective_wait_ns is not None
        assert (steps.collective_wait_ns <= steps.step_ns).all()
    else:
        assert steps.collective_wait_ns is None
    trained = (steps.flags & int(Flag.EVALUATION)) == 0
    assert trained.sum() == loop.clock.trained_steps
    warm = (steps.flags[trained] & int(Flag.WARMUP)) != 0
    assert warm.tolist() == [number < 2 for number in range(int(trained.sum()))]


@given(st.lists(actions, max_size=40))
def test_a_clock_that_was_stopped_notes_nothing(sequence: list[tuple[object, ...]]) -> None:
    loop = ScriptedLoop()
    loop.clock.stop()
    for name, *values in sequence:
        if name not in ("mark", "leave", "starts_workers"):
            act(loop, name, *values)
    assert loop.clock._events == []
    assert loop.step_ns == []
    assert loop.clock.busy
