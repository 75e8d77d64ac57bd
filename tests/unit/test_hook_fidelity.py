"""Hooked, torch is what it was: same values, types, names, graphs and pickles."""

import copy
import functools
import inspect
import io
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, dataloader
from torch.utils.data._utils import fetch, pin_memory

from hooked_loop import Net, Samples, SlowSGD, hooked
from profkit.observation import Observation, Order

OWNERS: list[Any] = [
    nn.Module,
    nn.functional,
    nn.utils,
    nn.utils.clip_grad,
    torch.Tensor,
    torch.autograd,
    torch.autograd.graph,
    torch.amp.GradScaler,
    torch.optim.Optimizer,
    torch.optim.SGD,
    torch.optim.Adam,
    SlowSGD,
    *(kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)),
    DataLoader,
    dataloader._BaseDataLoaderIter,
    dataloader._SingleProcessDataLoaderIter,
    dataloader._MultiProcessingDataLoaderIter,
    pin_memory,
    fetch._MapDatasetFetcher,
    fetch._IterableDatasetFetcher,
    torch.distributed,
    torch.distributed.distributed_c10d,
]


def contents() -> list[dict[str, Any]]:
    return [dict(vars(owner)) for owner in OWNERS]


def train(epochs: int = 2) -> tuple[Any, ...]:
    """A training with everything in it; what it ends with, and where all random streams stand."""
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 2))
    data = TensorDataset(torch.randn(24, 3), torch.randint(0, 2, (24,)))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=99)
    scaler = torch.amp.GradScaler("cpu")
    losses = []
    for _ in range(epochs):
        for value, target in DataLoader(data, batch_size=5, shuffle=True):
            optimizer.zero_grad()
            value = value + float(np.random.rand()) + random.random()
            loss = F.cross_entropy(net(value.to("cpu")), target)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            losses.append(loss.detach().numpy().tobytes())
    weights = [parameter.detach().numpy().tobytes() for parameter in net.parameters()]
    streams = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
    return losses, weights, streams


def test_results_and_random_streams_are_the_same_to_the_bit() -> None:
    plain = train()
    with hooked() as seen:
        assert train() == plain
    assert seen.seen == ["dfbo"] * 10
    assert train() == plain


def test_uninstalling_leaves_every_attribute_as_it_was() -> None:
    train(1)  # torch itself wraps the step of an optimizer when the first one is made
    SlowSGD(Net().parameters(), lr=0.1)
    before = contents()
    for _ in range(2):
        with hooked():
            assert [found != kept for found, kept in zip(contents(), before, strict=True)].count(
                True
            ) > 10
            train(1)
        for owner, found, kept in zip(OWNERS, contents(), before, strict=True):
            assert found.keys() == kept.keys(), owner
            assert [name for name in kept if found[name] is not kept[name]] == [], owner


def test_optimizers_first_made_while_hooked_step_as_if_they_had_not_been() -> None:
    class Fresh(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    own = Fresh.step
    with hooked():
        optimizer = Fresh(Net().parameters(), lr=0.1)
        assert Fresh.step is not own
    assert Fresh.step.hooked  # type: ignore[attr-defined]  # by torch, as ever
    assert Fresh.step.__code__.co_filename == inspect.getfile(torch.optim.Optimizer)
    assert inspect.unwrap(Fresh.step) is own
    optimizer.step()


def test_a_wrapper_that_somebody_put_around_ours_stays() -> None:
    original = F.l1_loss
    try:
        with hooked():
            ours = F.l1_loss

            @functools.wraps(ours)
            def theirs(*args: Any, **kwargs: Any) -> Any:
                return ours(*args, **kwargs) + 1

            F.l1_loss = theirs
        assert F.l1_loss is theirs
        assert F.l1_loss(torch.ones(2), torch.ones(2)) == 1
    finally:
        F.l1_loss = original


def test_who_watches_every_call_of_a_module_still_does() -> None:
    original, called = nn.Module.__call__, []

    @functools.wraps(original)
    def watching(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        called.append(type(self).__name__)
        return original(self, *args, **kwargs)

    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    nn.Module.__call__ = watching  # type: ignore[method-assign]
    try:
        with hooked() as seen:
            net(torch.ones(1, 3))
            assert seen.clock.forwards == 1
        assert nn.Module.__call__ is watching
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]
    assert called == ["Sequential", "Linear", "ReLU"]


FUNCTIONS: list[Callable[[], Any]] = [
    lambda: F.cross_entropy,
    lambda: F.smooth_l1_loss,
    lambda: F.kl_div,
    lambda: nn.utils.clip_grad_norm_,
    lambda: nn.utils.clip_grad_value_,
    lambda: torch.autograd.backward,
    lambda: torch.autograd.grad,
    lambda: torch.Tensor.backward,
    lambda: torch.optim.Optimizer.zero_grad,
    lambda: torch.optim.SGD.step,
    lambda: lr_scheduler.LRScheduler.step,
    lambda: torch.amp.GradScaler.scale,
    lambda: nn.Module.__call__,
    lambda: nn.Module.zero_grad,
    lambda: DataLoader.__iter__,
    lambda: DataLoader.__init__,
]


METHODS = [torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.pin_memory]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_builtin_methods_look_like_themselves(method: Any) -> None:
    with hooked():
        now = getattr(torch.Tensor, method.__name__)
        assert now is not method
        assert (now.__name__, now.__doc__) == (method.__name__, method.__doc__)
        with pytest.raises(ValueError, match="signature"):
            inspect.signature(now)
        assert copy.deepcopy(now) is now
        pickled = pickle.dumps(functools.partial(now, torch.ones(1)))
        assert pickle.loads(pickled).func is now
    assert pickle.loads(pickled).func is method


def looks(function: Any) -> tuple[Any, ...]:
    try:
        signature: Any = inspect.signature(function)
    except ValueError:  # builtin methods do not tell
        signature = None
    return (
        function.__name__,
        function.__qualname__,
        getattr(function, "__module__", None),
        function.__doc__,
        signature,
    )


@pytest.mark.parametrize("get", FUNCTIONS, ids=lambda get: looks(get())[1])
def test_functions_look_like_themselves(get: Callable[[], Any]) -> None:
    plain = looks(get())
    with hooked():
        assert looks(get()) == plain


@pytest.mark.parametrize("get", FUNCTIONS[:8], ids=lambda get: looks(get())[1])
def test_functions_are_pickled_by_name(get: Callable[[], Any]) -> None:
    plain = pickle.dumps(get())
    with hooked():
        assert pickle.dumps(get()) == plain
        assert pickle.loads(plain) is get()
        assert copy.deepcopy(get()) is get()


def test_models_and_optimizers_are_copied_and_pickled_as_ever() -> None:
    net = Net()
    optimizer = SlowSGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    with hooked():
        other = SlowSGD(net.parameters(), lr=0.1, momentum=0.9)
        other_scheduler = lr_scheduler.StepLR(other, 1)
        net(torch.ones(2, 3)).sum().backward()
        other.step()
        twins = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
        states = copy.deepcopy(other).state_dict(), pickle.loads(pickle.dumps(other)).state_dict()
        file = io.BytesIO()
        torch.save((net, other, other_scheduler.state_dict(), F.cross_entropy), file)
    for twin in twins:
        assert vars(twin).keys() == vars(net).keys()
        assert torch.equal(twin(torch.ones(2, 3)), net(torch.ones(2, 3)))
    for state in states:
        assert state.keys() == optimizer.state_dict().keys()
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded[2].keys() == scheduler.state_dict().keys()
    assert loaded[3] is F.cross_entropy


# Subclasses of tensors ----------------------------------------------------------------------------


class Kept(torch.Tensor):
    """Keeps its type in some functions only, as image types of torchvision do."""

    keeps: Any = None
    calls: Any = None

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        cls.calls.append(getattr(function, "__name__", str(function)))
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs or {})
        if function in cls.keeps and isinstance(result, torch.Tensor):
            return result.as_subclass(cls)
        return result


def kind() -> type[Kept]:
    """A class of its own that knows functions by what they are called now."""
    return type(
        "Kept",
        (Kept,),
        {"keeps": {torch.Tensor.to, F.mse_loss, torch.Tensor.clone}, "calls": []},
    )


def use(one: Any) -> tuple[list[str], list[str]]:
    one.calls.clear()
    results = [
        one.to(torch.float64),
        one.to("meta"),
        one.cpu(),
        one.clone(),
        F.mse_loss(one, one * 2),
        torch.Tensor.to(one, "cpu"),
    ]
    return [type(result).__name__ for result in results], list(one.calls)


@pytest.mark.parametrize("in_step", [False, True], ids=["outside", "in a step"])
@pytest.mark.parametrize("made", ["before", "after"])
def test_a_subclass_of_tensors_is_asked_the_same(in_step: bool, made: str) -> None:
    plain = use(torch.ones(3).as_subclass(kind()))
    early = torch.ones(3).as_subclass(kind())
    with hooked() as seen:
        one = early if made == "before" else torch.ones(3).as_subclass(kind())
        if in_step:
            seen.clock.claim()
            seen.clock.begin()
        if made == "before":
            # What is defined in Python asks by the name that it has now.
            one.keeps.add(F.mse_loss)
        assert use(one) == plain
        assert not seen.clock.busy
    one.keeps.update((torch.Tensor.to, F.mse_loss))
    assert use(one) == plain


def test_a_strict_subclass_is_asked_nothing_more() -> None:
    known = torch.Tensor.to

    class Strict(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is not known:
                raise TypeError(f"{function} is not for this")
            return torch.ones(1, device="meta")

    one = torch.ones(3).as_subclass(Strict)
    with hooked() as seen:
        for _ in DataLoader(Samples(2), batch_size=2):
            nn.Identity()(torch.ones(1))
            assert one.to("meta").device.type == "meta"
    assert seen.seen == ["dtf"]


def test_a_function_mode_sees_the_same_calls() -> None:
    class Listening(torch.overrides.TorchFunctionMode):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.calls.append(function.__name__)
            return function(*args, **kwargs or {})

    def run() -> list[str]:
        with Listening() as mode:
            value = torch.ones(2, 3).to(torch.float64).to("meta")
            F.mse_loss(value, value)
        return mode.calls

    plain = run()
    with hooked() as seen:
        seen.clock.claim()
        seen.clock.begin()
        assert run() == plain


def test_image_types_keep_their_type() -> None:
    # Imported while hooked, as in a program that is observed from the start: by a fresh process.
    code = """
import torch
from profkit.probe.hooks import Hooks
from profkit.probe.loop_clock import LoopClock
hooks = Hooks(LoopClock(lambda steps, marks: None))
hooks.install()
from profkit.workloads.torchvision_repair import import_torchvision
import_torchvision()
from torchvision import tv_tensors
def kinds():
    image = tv_tensors.Image(torch.ones(3, 2, 2))
    return [type(each).__name__ for each in
            (image.to("meta"), image.to(torch.float64), image.cpu(), image.clone(), image + 1)]
outside = kinds()
hooks.clock.claim()
hooks.clock.begin()
print(outside == kinds(), *outside)
"""
    assert run_python(code).split() == ["True", "Image", "Image", "Tensor", "Image", "Tensor"]


def run_python(code: str, *, warns: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, *([] if warns else ["-W", "error"]), "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Compilers ----------------------------------------------------------------------------------------

COMPILED = """
import sys
if "early" in sys.argv: import torch._dynamo
import torch
import torch.nn.functional as F
from torch import nn
from profkit.probe.hooks import Hooks
from profkit.probe.loop_clock import LoopClock
if "hooked" in sys.argv:
    clock = LoopClock(lambda steps, marks: None)
    Hooks(clock).install()
    clock.claim()
    clock.begin()
import torch._dynamo
from torch._dynamo.testing import CompileCounter

torch.manual_seed(0)
x, y = torch.randn(2, 4), torch.randn(2, 4)

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.loss = F.smooth_l1_loss
    def forward(self, value):
        value = torch.relu(self.first(value.to(torch.float64).float()))
        torch._dynamo.graph_break()
        return self.loss(self.second(value), y)

broken = Broken()
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(x).sum().backward()

def step():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()

def slope():
    value = x.clone().requires_grad_(True)
    return torch.autograd.grad((value * value).sum(), value)[0].sum()

cases = {
    "model": (lambda: model(x).sum(), True),
    "model and loss": (lambda: F.mse_loss(model(x), y), True),
    "copies": (lambda: (torch.Tensor.to(x, torch.float64) + x.cpu().to("cpu")).sum(), True),
    "graph break": (lambda: broken(x), False),
    "optimizer": (lambda: optimizer.step() or torch.zeros(()), False),
    "whole step": (step, False),
    "grad": (slope, False),
}
for name, (function, whole) in cases.items():
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter, fullgraph=whole)
    values = [float(compiled()) for _ in range(2)]
    print(name, counter.frame_count, counter.op_count, [value.hex() for value in values])
compiled = torch.compile(model, backend="eager")
print(float(compiled(x).sum()).hex())
if "hooked" in sys.argv:
    forwards, events = clock.forwards, len(clock._events)
    compiled(x)
    # One mark: a compiled model is forward like any other.
    assert (clock.forwards - forwards, len(clock._events) - events) == (1, 4)
"""


def compiled(*how: str) -> str:
    code = f"import sys; sys.argv[1:] = {list(how)!r}\n{COMPILED}"
    return run_python(code, warns=True)


@pytest.fixture(scope="module")
def plainly_compiled() -> str:
    return compiled()


@pytest.mark.parametrize("early", [(), ("early",)], ids=["before the compiler", "after it"])
def test_the_compiler_makes_the_same_graphs(plainly_compiled: str, early: tuple[str, ...]) -> None:
    assert plainly_compiled.count("\n") == 8
    assert compiled("hooked", *early) == plainly_compiled


class Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        output = self.linear(value.to(torch.float32).cpu())
        return F.mse_loss(output, output + 1) + F.smooth_l1_loss(output, output + 2)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("script", [lambda net, value: torch.jit.script(net), torch.jit.trace])
def test_script_and_trace_make_the_same_graph(script: Callable[[Any, Any], Any]) -> None:
    net, value = Scriptable(), torch.ones(2, 3)
    plain = script(net, value)
    expected = plain(value)
    with hooked() as seen:
        made = script(net, value)
        seen.clock.claim()
        seen.clock.begin()
        again = script(net, value)
        forwards = seen.clock.forwards
        assert torch.equal(again(value), expected)
        assert seen.clock.forwards == forwards + 1
    for other in (made, again):
        nodes = [str(node.kind()) for node in other.inlined_graph.nodes()]
        assert nodes == [str(node.kind()) for node in plain.inlined_graph.nodes()]
        assert torch.equal(other(value), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_every_loss_can_be_scripted_as_before() -> None:
    def outcomes() -> dict[str, str]:
        found = {}
        for name in dir(F):
            if name.endswith("_loss") or name in ("cross_entropy", "kl_div"):
                try:
                    found[name] = str(torch.jit.script(getattr(F, name)).graph)
                except Exception as error:
                    found[name] = type(error).__name__
        return found

    torch.jit._state._clear_class_state()
    plain = outcomes()
    with hooked():
        assert outcomes() == plain


def test_symbolic_traces_are_the_same() -> None:
    plain = torch.fx.symbolic_trace(Scriptable())
    with hooked():
        traced = torch.fx.symbolic_trace(Scriptable())
        assert traced.code == plain.code
        targets = [node.target for node in traced.graph.nodes]
        assert F.mse_loss in targets
        copied = pickle.loads(pickle.dumps(traced))
    assert copied.code == plain.code


def test_transforms_of_functions_work() -> None:
    def gradients() -> torch.Tensor:
        net = nn.Linear(3, 2)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(0.5)

        def loss(weights: Any, value: torch.Tensor) -> torch.Tensor:
            return F.mse_loss(torch.func.functional_call(net, weights, value), torch.ones(2))

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
        return each(dict(net.named_parameters()), torch.ones(4, 3))["weight"]

    plain = gradients()
    with hooked() as seen:
        seen.clock.claim()
        seen.clock.begin()
        assert torch.equal(gradients(), plain)


# Ends of observations -----------------------------------------------------------------------------


def test_a_fork_in_the_middle_of_a_request_leaves_the_child_unobserved() -> None:
    code = """
import os, torch
from torch.utils.data import DataLoader, Dataset
from profkit.probe.hooks import Hooks
from profkit.probe.loop_clock import LoopClock
tables = []
clock = LoopClock(lambda steps, marks: tables.append(len(steps)))
Hooks(clock).install()
os.register_at_fork(after_in_child=clock.stop)
class Forking(Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, index):
        if index == 1:
            self.child = os.fork()
        return torch.ones(2)
data = Forking()
weight = torch.ones(2, requires_grad=True)
for value in DataLoader(data):
    (value * weight).sum().backward()
if data.child == 0:
    os._exit(0 if clock.busy and clock.trained_steps == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(data.child, 0)[1]), clock.trained_steps)
"""
    assert run_python(code).split() == ["0", "3"]


def test_a_model_that_keeps_a_loss_can_be_saved_after_enough_steps(tmp_path: Path) -> None:
    # Who goes on unobserved keeps the wrappers: what was pickled by name still has that name.
    observation = Observation(
        Order(
            path=tmp_path,
            name="enough",
            command="train.py",
            started_at="2026-01-01T00:00:00+00:00",
            warmup=0,
            steps=2,
        ),
        tell=lambda line: None,
    )
    observation.begin()
    try:
        net = Net()
        net.loss = F.cross_entropy  # type: ignore[assignment]
        optimizer = SlowSGD(net.parameters(), lr=0.1)
        for value, target in DataLoader(Samples(10), batch_size=2):
            net.loss(net(value), target).backward()
            optimizer.step()
        assert observation.clock.stopped
        torch.save(net, tmp_path / "model.pt")
        loaded = torch.load(tmp_path / "model.pt", weights_only=False)
        assert loaded.loss is net.loss
    finally:
        observation.hooks.uninstall()
