import copy
import itertools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from hooked_loop import (
    BACKWARD,
    FETCH,
    FORWARD,
    STEP,
    TIME,
    Net,
    Observed,
    Samples,
    SlowSGD,
    hooked,
)
from profkit.schema.steps import Flag

START, NONE = Flag.BLOCK_START, Flag(0)


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def optimizer(net: Net) -> SlowSGD:
    return SlowSGD(net.parameters(), lr=0.01)


def loader(count: int = 6, batch_size: int = 2) -> DataLoader[Any]:
    return DataLoader(Samples(count), batch_size=batch_size)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    value, target = batch
    optimizer.zero_grad()
    F.cross_entropy(net(value), target).backward()
    optimizer.step()


# Stages -------------------------------------------------------------------------------------------


def test_a_plain_loop_is_split_exactly(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for batch in loader():
            train(net, optimizer, batch)
            TIME.pass_ns(5)
        TIME.pass_ns(1_000)
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 5]] * 3
    assert seen.flags == [START, NONE, NONE]
    assert seen.samples == [2, 2, 2]
    assert seen.clock.device == "cpu"


def test_an_optimizer_made_before_is_seen_as_one_made_after(net: Net) -> None:
    early = SlowSGD(net.parameters(), lr=0.01)
    with hooked() as seen:
        late = SlowSGD(net.parameters(), lr=0.01)
        for batch, optimizer in zip(loader(), itertools.cycle((early, late)), strict=False):
            train(net, optimizer, batch)
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]] * 3


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: F.cross_entropy(output, target),
        nn.CrossEntropyLoss(),
        lambda output, target: F.mse_loss(output[:, 0], target.float()),
        lambda output, target: F.kl_div(output, output.detach().exp()),
        lambda output, target: F.binary_cross_entropy_with_logits(output[:, 0], target.float()),
        lambda output, target: F.nll_loss(output, target),
    ],
    ids=["function", "module", "mse", "kl", "bce", "nll"],
)
@pytest.mark.filterwarnings("ignore:reduction")
def test_losses_are_forward(loss: Callable[..., torch.Tensor]) -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    marks = []
    with hooked() as seen:
        for value, target in loader():
            output = value @ weight
            before = len(seen.clock._events)
            loss(output, target)
            marks.append(len(seen.clock._events) - before)
            output.sum().backward()
    assert seen.seen == ["dfb"] * 3
    assert marks == [4] * 3  # one mark: two events of two integers


def test_autograd_grad_is_backward(net: Net) -> None:
    with hooked() as seen:
        for value, _ in loader():
            torch.autograd.grad(net(value).sum(), list(net.parameters()))
        for value, _ in loader():
            torch.autograd.backward([net(value).sum()])
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, None, 0]] * 6


def test_a_closure_stays_forward_and_backward(net: Net) -> None:
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3, tolerance_change=0.0)
    value = torch.ones(2, 3)
    calls: list[int] = []

    def closure() -> torch.Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = net(value).square().sum()
        loss.backward()
        TIME.pass_ns(5)
        return loss

    with hooked() as seen:
        for _ in loader(2):
            optimizer.step(closure)
    rounds = len(calls)
    assert rounds > 1
    # What else the closure does is the user's code, not the optimizer's.
    assert seen.rows == [[2 * FETCH, None, rounds * FORWARD, rounds * BACKWARD, 0, rounds * 5]]


def test_a_closure_without_a_loader(net: Net, optimizer: SlowSGD) -> None:
    value = torch.ones(2, 3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(value).square().sum()
        loss.backward()
        return loss

    with hooked() as seen:
        for _ in range(3):
            optimizer.step(closure)
    assert seen.rows == [[None, None, FORWARD, BACKWARD, STEP, 0]] * 3


def test_full_batches_by_a_closure_over_a_loader(net: Net) -> None:
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2, tolerance_change=0.0)
    calls: list[int] = []

    def closure() -> torch.Tensor:
        calls.append(1)
        optimizer.zero_grad()
        total = torch.zeros(())
        for value, _ in loader(4):
            loss = net(value).square().sum()
            loss.backward()
            total += loss.detach()
        return total

    with hooked() as seen:
        for _ in range(2):
            optimizer.step(closure)
            TIME.pass_ns(1_000)
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, None, 0]] * 2 * len(calls)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=99),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.ConstantLR(o), torch.optim.lr_scheduler.StepLR(o, 1)], [99]
    ),
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS.keys())
def test_schedulers_belong_to_the_optimizer(net: Net, make: Callable[[Any], Any]) -> None:
    with hooked() as seen:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scheduler = make(optimizer)
        optimizer.step()  # as torch wants it, before the first step of the scheduler
        for value, _ in loader(2):
            net(value).sum().backward()
            before = len(seen.clock._events)
            scheduler.step()
            marks = (len(seen.clock._events) - before) // 4
    assert seen.seen[-1] == "dfbo"
    assert marks == (2 if isinstance(scheduler, torch.optim.lr_scheduler.SequentialLR) else 1)


def test_a_plateau_scheduler_belongs_to_the_optimizer(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with hooked() as seen:
        for value, _ in loader(2):
            net(value).sum().backward()
            scheduler.step(1.0)
    assert seen.seen == ["dfbo"]


def test_a_scheduler_of_ones_own_belongs_to_the_optimizer(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with hooked() as seen:

        class Own(torch.optim.lr_scheduler.LRScheduler):
            def get_lr(self) -> list[float]:
                return [0.1]

            def step(self, epoch: int | None = None) -> None:
                TIME.pass_ns(3)

        scheduler = Own(optimizer)
        for value, _ in loader(2):
            net(value).sum().backward()
            scheduler.step()
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, 3, 0]]


def test_scaling_and_clipping_belong_to_the_optimizer(net: Net, optimizer: SlowSGD) -> None:
    scaler = torch.amp.GradScaler("cpu")
    marks: dict[str, int] = {}
    with hooked() as seen:

        def count(name: str, action: Callable[[], Any]) -> Any:
            before = len(seen.clock._events)
            result = action()
            marks[name] = len(seen.clock._events) - before
            return result

        for value, target in loader(4):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(net(value), target)
            scaled = count("scale", lambda: scaler.scale(loss))  # noqa: B023
            scaled.backward()
            count("unscale", lambda: scaler.unscale_(optimizer))
            count("clip", lambda: nn.utils.clip_grad_norm_(net.parameters(), 1.0))
            count("clip value", lambda: nn.utils.clip_grad_value_(net.parameters(), 1.0))
            count("step", lambda: scaler.step(optimizer))
            count("update", scaler.update)
            count("zero", optimizer.zero_grad)
            count("zero module", net.zero_grad)
    assert min(marks.values()) >= 4
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]] * 2


def test_a_scaled_loop_without_a_loader_has_whole_steps(net: Net, optimizer: SlowSGD) -> None:
    scaler = torch.amp.GradScaler("cpu")
    with hooked() as seen:
        for _ in range(4):
            loss = net(torch.ones(2, 3)).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert seen.rows == [[None, None, FORWARD, BACKWARD, STEP, 0]] * 4


def test_accumulation_is_one_step_a_batch(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for number, (value, _) in enumerate(loader(8)):
            net(value).sum().backward()
            if number % 2:
                optimizer.step()
    assert seen.seen == ["dfb", "dfbo"] * 2


def test_a_recomputed_forward_is_backward(net: Net) -> None:
    with hooked() as seen:
        for value, _ in loader(2):
            checkpoint(net, value, use_reentrant=False).sum().backward()
    assert seen.rows == [[2 * FETCH, None, FORWARD, FORWARD + BACKWARD, None, 0]]
    assert seen.clock.forwards == 1


def test_a_model_called_twice_in_a_step_is_one_step(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for value, _ in loader():
            F.triplet_margin_loss(net(value), net(value + 1), net(value + 2)).backward()
            optimizer.step()
    assert seen.rows == [[2 * FETCH, None, 3 * FORWARD, 3 * BACKWARD, STEP, 0]] * 3


def test_a_thousand_modules_within_one_make_one_mark() -> None:
    deep = nn.Sequential(*(nn.Identity() for _ in range(1_000)))
    with hooked() as seen:
        for value, _ in loader(2):
            before = len(seen.clock._events)
            deep(value)
            assert len(seen.clock._events) - before == 4
    assert seen.clock.forwards == 1


def test_only_copies_to_another_memory_are_transfer(net: Net) -> None:
    value, marks = torch.ones(2, 3), []
    with hooked() as seen:
        for _ in loader(2):
            net(value)
            for copying in (
                lambda: value.to("cpu"),
                lambda: value.to(torch.float64),
                lambda: value.cpu(),
                lambda: value.to("cpu", copy=True),
                lambda: value.to("meta"),
                lambda: net.to("cpu"),
            ):
                before = len(seen.clock._events)
                copying()
                marks.append(len(seen.clock._events) - before)
    assert marks == [0, 0, 0, 0, 4, 0]
    assert seen.seen == ["dtf"]


# GANs ---------------------------------------------------------------------------------------------


def adversaries() -> tuple[Net, Net, SlowSGD, SlowSGD]:
    one, two = Net(), Net()
    return one, two, SlowSGD(one.parameters(), lr=0.01), SlowSGD(two.parameters(), lr=0.01)


def test_two_models_that_train_in_turn_share_the_step_of_their_batch() -> None:
    one, two, first, second = adversaries()
    with hooked() as seen:
        for value, _ in loader():
            for net, optimizer in ((one, first), (two, second)):
                net(value).sum().backward()
                optimizer.step()
    assert seen.rows == [[2 * FETCH, None, 2 * FORWARD, 2 * BACKWARD, 2 * STEP, 0]] * 3
    assert seen.flags == [START, NONE, NONE]


def test_two_models_without_a_loader_share_steps_from_the_second_round_on() -> None:
    one, two, first, second = adversaries()
    with hooked() as seen:
        for _ in range(4):
            for net, optimizer in ((one, first), (two, second)):
                net(torch.ones(2, 3)).sum().backward()
                optimizer.step()
    single = [None, None, FORWARD, BACKWARD, STEP, 0]
    both = [None, None, 2 * FORWARD, 2 * BACKWARD, 2 * STEP, 0]
    assert seen.rows == [single, single, both, both, both]


# No loader ----------------------------------------------------------------------------------------


def test_without_a_loader_data_wait_is_absent(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for _ in range(3):
            TIME.pass_ns(4)
            train(net, optimizer, (torch.ones(2, 3), torch.zeros(2, dtype=torch.long)))
    assert seen.rows[1:] == [[None, None, FORWARD, BACKWARD, STEP, 4]] * 2
    assert seen.flags == [START | Flag.PARTIAL, NONE, NONE]


def test_an_optimizer_around_another_one_is_one_step(net: Net, optimizer: SlowSGD) -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self, closure: Any = None) -> None:
            self.inner.step(closure)
            TIME.pass_ns(3)

    with hooked() as seen:
        outer = Lookahead(optimizer)
        for _ in range(3):
            net(torch.ones(2, 3)).sum().backward()
            outer.step()
    assert seen.rows == [[None, None, FORWARD, BACKWARD, STEP + 3, 0]] * 3


def test_one_optimizer_derived_from_another_is_one_step(net: Net, optimizer: SlowSGD) -> None:
    plain = torch.optim.SGD(net.parameters(), lr=0.01)  # hooks the step that SlowSGD builds on
    with hooked() as seen:
        for _ in range(3):
            net(torch.ones(2, 3)).sum().backward()
            optimizer.step()
        for value, _ in loader(2):
            net(value).sum().backward()
            plain.step()
    assert seen.rows[:-1] == [[None, None, FORWARD, BACKWARD, STEP, 0]] * 3


# Evaluation ---------------------------------------------------------------------------------------


def evaluate(net: Net, batches: Any) -> None:
    net.eval()
    with torch.no_grad():
        for value, _ in batches:
            net(value)
    net.train()


def test_evaluation_between_epochs_is_apart(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for _ in range(2):
            for batch in loader(4):
                train(net, optimizer, batch)
            evaluate(net, loader(4))
    assert seen.flags[:2] == seen.flags[4:6] == [START, NONE]
    assert all(flags & Flag.EVALUATION for flags in seen.flags[2:4] + seen.flags[6:])
    assert seen.seen == ["dfbo"] * 2 + ["df"] * 2 + ["dfbo"] * 2 + ["df"] * 2


@pytest.mark.parametrize("batches", [loader(4), [(torch.ones(2, 3), None)] * 2], ids=["l", "t"])
def test_evaluation_in_the_middle_interrupts_its_step(
    net: Net, optimizer: SlowSGD, batches: Any
) -> None:
    with hooked() as seen:
        for number, batch in enumerate(loader(8)):
            train(net, optimizer, batch)
            if number == 1:
                evaluate(net, batches)
    assert seen.flags == [START, Flag.INTERRUPTED, NONE, NONE]
    by_loader = isinstance(batches, DataLoader)
    assert seen.clock.evaluation_batches == (2 if by_loader else 0)
    assert seen.clock.evaluation_ns == (2 * (2 * FETCH + FORWARD) if by_loader else 0)


def test_a_model_that_labels_its_own_data_loses_no_steps(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for batch in loader(8):
            net.eval()
            with torch.no_grad():
                net(batch[0])
            net.train()
            train(net, optimizer, batch)
    assert seen.seen == ["dfbo"] * 4
    assert seen.flags[1:] == [Flag.INTERRUPTED, NONE, NONE]


def test_a_frozen_model_that_trains_is_no_evaluation(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for batch in loader():
            train(net, optimizer, batch)
            net.eval()
            train(net, optimizer, batch)
    assert seen.flags == [START, NONE, NONE]


# Exceptions ---------------------------------------------------------------------------------------


class BrokenError(RuntimeError):
    pass


def fail(*_: Any) -> None:
    raise BrokenError


def test_exceptions_leave_the_clock_usable(net: Net, optimizer: SlowSGD) -> None:
    def in_forward(batch: Any) -> None:
        with net.register_forward_hook(fail):
            train(net, optimizer, batch)

    def in_backward(batch: Any) -> None:
        output = net(batch[0])
        output.register_hook(fail)
        output.sum().backward()

    def in_optimizer(batch: Any) -> None:
        net(batch[0]).sum().backward()
        with pytest.raises(TypeError):
            optimizer.step(closure=5)  # type: ignore[call-overload]
        raise BrokenError

    def in_copy(batch: Any) -> None:
        with pytest.raises(RuntimeError):
            net(batch[0]).to("no such device")
        raise BrokenError

    with hooked() as seen:
        for failing in (in_forward, in_backward, in_optimizer, in_copy):
            for number, batch in enumerate(loader(6)):
                if number == 1:
                    with pytest.raises(BrokenError):
                        failing(batch)
                else:
                    train(net, optimizer, batch)
            assert not seen.clock.busy
    assert seen.seen == [
        "dfbo", "dfo", "dfbo",
        "dfbo", "dfb", "dfbo",
        "dfbo", "dfbo", "dfbo",
        "dfbo", "df", "dfbo",
    ]  # fmt: skip


def test_a_model_with_strange_parameters_is_called_as_before() -> None:
    class Grouped(nn.Linear):
        def parameters(self, rate: float) -> list[dict[str, Any]]:  # type: ignore[override]
            return [{"params": [self.weight], "lr": rate}]

    class Listed(nn.Linear):
        def parameters(self, recurse: bool = True) -> Any:
            return iter([{"params": [self.weight]}])

    models = [Grouped(3, 2), Listed(3, 2), nn.Linear(3, 2)]
    with hooked() as seen:
        for value, _ in loader(2):
            for module in models:
                assert module(value).shape == (2, 2)
    assert seen.clock.device == "cpu"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_frozen_scripted_model_is_called_as_before() -> None:
    teacher = torch.jit.freeze(torch.jit.script(nn.Linear(3, 2).eval()))
    with hooked() as seen:
        for value, _ in loader(2):
            assert teacher(value).shape == (2, 2)
    assert seen.clock.forwards == 1


def test_functions_are_pickled_as_ever() -> None:
    with hooked():
        for function in (
            F.cross_entropy,
            torch.autograd.grad,
            torch.Tensor.backward,
            torch.Tensor.to,
            nn.utils.clip_grad_norm_,
            torch.distributed.all_reduce,
            torch.distributed.distributed_c10d.all_reduce,
        ):
            assert pickle.loads(pickle.dumps(function)) is function
        pickled = pickle.dumps(torch.Tensor.to)
    assert pickle.loads(pickled) is torch.Tensor.to  # in a process without hooks


# Threads ------------------------------------------------------------------------------------------


def test_a_thread_that_prefetches_takes_nothing_from_the_loop(net: Net, optimizer: SlowSGD) -> None:
    batches = []

    def prefetch() -> None:
        for batch in loader(6):
            nn.Identity()(batch[0]).to("meta")
            batches.append(batch)

    with hooked() as seen:
        train(net, optimizer, (torch.ones(2, 3), torch.zeros(2, dtype=torch.long)))
        thread = threading.Thread(target=prefetch)
        thread.start()
        thread.join()
        for batch in batches:
            train(net, optimizer, batch)
    assert seen.rows[2:] == [[None, None, FORWARD, BACKWARD, STEP, 0]] * 2
    assert seen.seen == ["fbo"] * 4
    assert seen.clock.foreign_requests > 0


def test_a_thread_that_evaluated_first_gives_way_to_training(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        thread = threading.Thread(target=evaluate, args=(net, loader(4)))
        thread.start()
        thread.join()
        for _ in range(2):
            for batch in loader(4):
                train(net, optimizer, batch)
    assert seen.clock.thread == threading.get_ident()
    # The first batch was asked for while another thread had the loop.
    assert seen.rows[-3:] == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]] * 3


# Optimizers, models and losses as values ----------------------------------------------------------


def test_a_copy_made_while_hooked_is_observed_too(net: Net) -> None:
    with hooked() as seen:
        twin = copy.deepcopy(net)
        optimizer = SlowSGD(twin.parameters(), lr=0.1)
        for batch in loader(4):
            train(twin, optimizer, batch)
    assert seen.rows == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]] * 2


def test_the_optimizers_of_a_program_are_known(net: Net, optimizer: SlowSGD) -> None:
    with hooked() as seen:
        for batch in loader(4):
            train(net, optimizer, batch)
    assert [known() for known in seen.hooks.optimizers.values()] == [optimizer]


def test_a_second_observation_sees_what_the_first_one_saw(net: Net, optimizer: SlowSGD) -> None:
    found = []
    for _ in range(2):
        with hooked() as seen:
            for batch in loader(4):
                train(net, optimizer, batch)
        found.append(seen.rows)
    assert found[0] == found[1] == [[2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]] * 2


def test_enough_steps_end_the_observation_and_not_the_program(net: Net, optimizer: SlowSGD) -> None:
    told: list[Observed] = []
    with hooked(limit=2, enough=lambda: told.append(seen)) as seen:
        for batch in loader(10):
            train(net, optimizer, batch)
        for batch in loader(2):
            train(net, optimizer, batch)
        assert seen.clock._events == []
    assert told == [seen]
    assert seen.seen == ["dfbo"] * 2
