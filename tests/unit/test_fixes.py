"""Fixes, applied to small trainings in this process: what changes, and what must not."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from profkit.probe import loader_fixes
from profkit.probe.fixes import AppliedFixes
from profkit.probe.hooks import Hooks
from profkit.probe.loader_fixes import NO_LATER_EPOCH
from profkit.probe.loop_clock import LoopClock
from profkit.probe.memory_data import MemoryData, NotSameError, equal
from profkit.probe.replacements import Replacements
from profkit.probe.sameness import Sameness, checksum
from profkit.schema.fix import ALL_LOADERS, Fix, FixFacts, FixOrder, Knob, Same, Structure
from profkit.verify.equivalence import compare_bases, compare_fixed

SITE = "fixes_site.py"
CODE = "def make(kind, *args, **kwargs):\n    return kind(*args, **kwargs)\n"


class Squares(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        return torch.full((1, 4, 4), float(i * i)), i % 3


@contextmanager
def fixed(settings: dict[str, Any], watched: int = 4) -> Iterator[AppliedFixes]:
    hooks = Replacements()
    applied = AppliedFixes(FixOrder(settings, loader=f"{SITE}:2", watched=watched))
    applied.install(hooks)
    try:
        yield applied
    finally:
        hooks.put_back()


@pytest.fixture(scope="module")
def make() -> Any:
    """Makes things in a file of the user's."""
    space: dict[str, Any] = {"__name__": "user"}
    exec(compile(CODE, SITE, "exec"), space)
    return space["make"]


def train(make: Any, dataset: Any, steps: int = 4, **loading: Any) -> tuple[Any, list[Any]]:
    """A short training: the loader, and its batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters())
    loader = make(DataLoader, dataset, batch_size=4, shuffle=True, **loading)
    batches = []
    for x, y in loader:
        batches.append((x, y))
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if len(batches) == steps:
            break
    return loader, batches


def facts(make: Any, settings: dict[str, Any], dataset: Any = None, **loading: Any) -> FixFacts:
    with fixed(settings) as applied:
        loader, _ = train(make, Squares() if dataset is None else dataset, **loading)
        return applied.facts(applied.number_of(loader))


def test_without_any_the_training_is_watched(make: Any) -> None:
    one, other = facts(make, {}), facts(make, {})
    assert (len(one.batches), len(one.losses), one.failures) == (4, 4, {})
    assert one == other
    assert one.loader == f"{SITE}:2"
    assert compare_bases(one, other).same is True


def test_the_structure_told_is_that_of_the_training_batches(make: Any) -> None:
    with fixed({}) as applied:
        list(DataLoader([torch.zeros(1)], batch_size=1))  # of an evaluation before it
        loader, _ = train(make, Squares())
        list(DataLoader([torch.zeros(1)], batch_size=1))
        assert applied.facts(applied.number_of(loader)).structure is Structure.TUPLE


def test_in_memory_the_batches_are_the_same_to_the_bit(make: Any) -> None:
    base = facts(make, {})
    kept = facts(make, {Knob.DATA.value: None})
    assert kept.failures == {}
    assert "decoding the data once took" in kept.notes[0]
    assert (kept.batches, kept.losses) == (base.batches, base.losses)


def test_all_loaders_of_a_program_can_be_meant(make: Any) -> None:
    hooks = Replacements()
    order = FixOrder({Knob.WORKERS.value: 0}, loader=ALL_LOADERS)
    AppliedFixes(order).install(hooks)
    loading = {"num_workers": 2, "prefetch_factor": 4, "persistent_workers": True, "timeout": 5}
    try:
        loaders = [make(DataLoader, Squares(), **loading), DataLoader(Squares(), **loading)]
    finally:
        hooks.put_back()
    assert [loader.num_workers for loader in loaders] == [0, 0]
    assert all(len(list(loader)) == 20 for loader in loaders)
    with fixed({Knob.WORKERS.value: 0}):  # of one place only
        loaders = [make(DataLoader, Squares(), **loading), DataLoader(Squares(), **loading)]
    assert [loader.num_workers for loader in loaders] == [0, 2]


def test_in_memory_hardly_anything_is_decoded_again(make: Any) -> None:
    class Counted(Squares):
        calls = 0

        def __getitem__(self, i: int) -> Any:
            Counted.calls += 1
            return super().__getitem__(i)

    with fixed({Knob.DATA.value: None}):
        loader, _ = train(make, Counted(), steps=1)
        asked = []
        for _ in range(4):
            before = Counted.calls
            assert len(list(loader)) == 5
            asked.append(Counted.calls - before)
    assert asked == [16, 1, 1, 1]  # at first, and then a share of them


@pytest.mark.parametrize(("free", "loaders"), [(9_000, 0), (13_400, 1), (20_000, 2)])
def test_instances_and_loaders_of_one_place_share_the_memory(
    make: Any, monkeypatch: pytest.MonkeyPatch, free: int, loaders: int
) -> None:
    monkeypatch.setattr(loader_fixes, "free_memory", lambda: free)
    with fixed({Knob.DATA.value: None}) as applied:
        made = [make(DataLoader, Squares(), batch_size=4) for _ in range(2)]  # 1440 bytes each
        for loader in made:
            assert len(list(loader)) == 5
        facts = applied.facts(applied.number_of(made[0]))
    assert sum("decoding" in note for note in facts.notes) == loaders
    assert (facts.failures == {}) == (loaders == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_decoding_takes_no_more_than_the_data_itself() -> None:
    code = """
import re, torch
from pathlib import Path
from torch.utils.data import default_collate
from profkit.probe.memory_data import MemoryData

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8192
    def __getitem__(self, i):
        return torch.full((3000,), float(i))

def most():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

default_collate([Rows()[0]])
before = most()
kept = MemoryData(Rows(), default_collate, 1 << 30, float("inf"))
assert torch.equal(kept.fetch([5000, 3])[:, 0], torch.tensor([5000.0, 3.0]))
print((most() - before) / kept.size_bytes)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 1.5


def test_batches_of_another_kind_are_refused() -> None:
    class Later(Squares):
        def __getitem__(self, i: int) -> Any:
            return torch.zeros(1, dtype=torch.float64 if i >= 16 else torch.float32)

    with pytest.raises(NotSameError, match="differ in shape"):
        MemoryData(Later(), torch.utils.data.default_collate, 1 << 30, float("inf"))


class Epochs(Squares):
    """Draws by epoch and number, not by a stream."""

    stage = 0

    def __getitem__(self, i: int) -> Any:
        chance = torch.Generator().manual_seed(1000 * self.stage + i)
        return torch.randn(1, 4, 4, generator=chance), i % 3


class ToldBySetter(Squares):
    def set_epoch(self, epoch: int) -> None:
        pass


class ToldByAttribute(Squares):
    epoch = 0


class ToldByMemory(Squares):
    def __init__(self) -> None:
        self.epoch = SimpleNamespace(value=0)


class WrapsItself(Squares):
    @property
    def dataset(self) -> Any:
        return self


@pytest.mark.parametrize("kind", [ToldBySetter, ToldByAttribute, ToldByMemory])
def test_a_dataset_that_is_told_the_epoch_is_not_kept(kind: Any) -> None:
    inner = torch.utils.data.Subset(kind(), range(10))
    for dataset in (kind(), inner, torch.utils.data.ConcatDataset([Squares(), inner])):
        with pytest.raises(NotSameError, match=f"{kind.__name__} is told the epoch"):
            MemoryData(dataset, torch.utils.data.default_collate, most_bytes=1 << 30, deadline=9e99)
    MemoryData(WrapsItself(), torch.utils.data.default_collate, 1 << 30, 9e99)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_samples_that_change_from_epoch_to_epoch_are_seen(make: Any, epoch: int) -> None:
    dataset = Epochs()
    with fixed({Knob.DATA.value: None}) as applied:
        loader = make(DataLoader, dataset, batch_size=4)
        for _ in range(epoch):
            kept = list(loader)
        assert applied.failures == {}
        dataset.stage = 1
        assert (NO_LATER_EPOCH in applied.facts(None).notes) == (epoch == 1)
        before = torch.get_rng_state()
        DataLoader([0]).__iter__()  # draws a seed, as each iterator does
        wanted = torch.get_rng_state()
        torch.set_rng_state(before)
        found = list(loader)
        assert torch.equal(torch.get_rng_state(), wanted)
        assert applied.failures == {Knob.DATA.value: "samples change from epoch to epoch"}
    assert equal(found[0], torch.utils.data.default_collate([dataset[i] for i in range(4)]))
    assert not equal(kept[0], found[0])


class Drawn(Squares):
    def __getitem__(self, i: int) -> Any:
        return torch.rand(1, 4, 4), 0


class Ragged(Squares):
    def __getitem__(self, i: int) -> Any:
        return torch.zeros(1, 4, 4), {"name": str(i)}


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(1, 4, 4), 0)] * 16)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (Drawn(), "drawn by chance"),
        (Ragged(), "not made of tensors"),
        (Stream(), "has no length"),
    ],
)
def test_what_cannot_be_kept_in_memory_says_why(dataset: Any, reason: str) -> None:
    collate = torch.utils.data.default_collate
    with pytest.raises(NotSameError, match=reason):
        MemoryData(dataset, collate, most_bytes=1 << 30, deadline=float("inf"))


class Rarely(Squares):
    """Augments one of its samples, which probing misses."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, i: int) -> Any:
        x = torch.full((3,), float(i))
        return x + random.random() if i == 101 else x


class Certain(Rarely):
    def __getitem__(self, i: int) -> Any:
        return torch.full((3,), float(i))


def flip(samples: list[Any]) -> Any:
    """Draws, though nothing comes of it here."""
    whole = torch.utils.data.default_collate(samples)
    return whole.flip(1) if float(torch.rand(())) > 2 else whole


class Stirring(Squares):
    """Sets a random stream that others draw from."""

    def __getitem__(self, i: int) -> Any:
        np.random.seed(i)
        return super().__getitem__(i)


@pytest.mark.parametrize(
    ("dataset", "collate"),
    [
        (Rarely(), torch.utils.data.default_collate),
        (Certain(), flip),
        (Stirring(), torch.utils.data.default_collate),
    ],
)
def test_chance_is_seen_wherever_it_is_and_leaves_no_trace(dataset: Any, collate: Any) -> None:
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()
    with pytest.raises(NotSameError, match="drawn by chance"):
        MemoryData(dataset, collate, most_bytes=1 << 30, deadline=float("inf"))
    assert equal((torch.get_rng_state(), random.getstate(), np.random.get_state()), streams)


def test_long_arrays_are_compared_whole() -> None:
    one = np.zeros(5000)
    other = one.copy()
    other[2500] = 1
    assert equal((one, 1), (one.copy(), 1))
    assert not equal((one, 1), (other, 1))


def test_too_much_or_too_slow_is_refused() -> None:
    collate = torch.utils.data.default_collate
    with pytest.raises(NotSameError, match="more than the"):
        MemoryData(Squares(), collate, most_bytes=100, deadline=float("inf"))
    with pytest.raises(NotSameError, match="takes too long"):
        MemoryData(Squares(), collate, most_bytes=1 << 30, deadline=0.0)


def test_a_loaders_knobs_are_turned_where_it_is_made(make: Any) -> None:
    settings = {Knob.WORKERS.value: 2, Knob.PREFETCH.value: 3, Knob.PERSISTENT.value: True}
    with fixed(settings):
        changed = make(DataLoader, Squares(), 4)
        other = DataLoader(Squares(), batch_size=4)
    assert (changed.num_workers, changed.prefetch_factor, changed.persistent_workers) == (
        2,
        3,
        True,
    )
    assert (other.num_workers, changed.batch_size) == (0, 4)
    with fixed({Knob.WORKERS.value: 0}):
        alone = make(DataLoader, Squares(), num_workers=2, persistent_workers=True, timeout=5)
    assert (alone.num_workers, alone.persistent_workers, alone.timeout) == (0, False, 0)


@pytest.mark.parametrize("kind", ["fused", "foreach"])
def test_optimizers_take_another_implementation(make: Any, kind: str) -> None:
    base, found = facts(make, {}), facts(make, {Knob.OPTIMIZER.value: kind})
    assert found.failures == {}
    assert found.batches == base.batches
    assert found.losses == pytest.approx(base.losses, rel=1e-3)
    with fixed({Knob.OPTIMIZER.value: kind}):
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    assert optimizer.defaults[kind] is True


def test_gradients_go_in_place_of_being_zeroed() -> None:
    with fixed({Knob.GRADIENTS.value: True}):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.zeros(1, 2)).sum().backward()
        optimizer.zero_grad(set_to_none=False)
        assert model.weight.grad is None


@pytest.mark.parametrize(
    ("knob", "tolerance"),
    [(Knob.PRECISION, 0.05), (Knob.LAYOUT, 1e-3)],
)
def test_the_model_computes_otherwise_with_nearly_the_same_losses(
    make: Any, knob: Knob, tolerance: float
) -> None:
    base, found = facts(make, {}), facts(make, {knob.value: "bfloat16"})
    assert found.failures == {}
    assert found.batches == base.batches
    assert (found.losses != base.losses) or knob is Knob.LAYOUT
    assert found.losses == pytest.approx(base.losses, rel=tolerance)


def test_what_a_model_gives_is_float_again() -> None:
    seen: list[torch.dtype] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.linear(x)
            seen.append(y.dtype)
            return y

    with fixed({Knob.PRECISION.value: "bfloat16"}):
        found = Net()(torch.zeros(1, 2))
    assert (seen, found.dtype) == ([torch.bfloat16], torch.float32)


def test_threads_stay_as_they_are_set() -> None:
    before = torch.get_num_threads()
    try:
        with fixed({Knob.THREADS.value: 1}):
            torch.set_num_threads(before + 1)
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# What comes to nothing -------------------------------------------------------------------------


class TwoParts(nn.Module):
    """Encoder and head that are called one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2, 3)


@pytest.mark.parametrize("order", [("encoder", "head"), ("head", "encoder")])
def test_one_module_with_convolutions_is_enough_for_a_layout(order: tuple[str, ...]) -> None:
    model = TwoParts()
    given = {"encoder": torch.zeros(1, 1, 4, 4), "head": torch.zeros(1, 2)}
    with fixed({Knob.LAYOUT.value: None}) as applied:
        for name in order:
            getattr(model, name)(given[name])
        nn.Linear(2, 2).eval()(torch.zeros(1, 2))
        assert applied.facts(None).failures == {}
    with fixed({Knob.LAYOUT.value: None}) as applied:
        model.head(given["head"])
        (reason,) = applied.facts(None).failures.values()
    assert reason == "the model has no convolutions"


@pytest.mark.parametrize(
    "knob",
    [
        Knob.DATA,
        Knob.FETCH,
        Knob.PERSISTENT,
        Knob.PREFETCH,
        Knob.LAYOUT,
        Knob.PRECISION,
        Knob.COMPILER,
        Knob.OPTIMIZER,
        Knob.GRADIENTS,
    ],
)
def test_a_fix_that_met_nothing_it_applies_to_has_failed(make: Any, knob: Knob) -> None:
    value = "fused" if knob is Knob.OPTIMIZER else 2
    with fixed({knob.value: value}) as applied:
        make(DataLoader, [1, 2, 3], batch_size=None if knob is Knob.FETCH else 1)
        nn.MSELoss()(torch.zeros(2), torch.zeros(2))  # trains, and has no parameters
        failures = applied.facts(None).failures
    assert list(failures) == [knob.value]
    if knob is not Knob.FETCH:
        assert failures[knob.value] == "nothing that it applies to was seen"


def run_model(model: nn.Module, *, is_cast: bool = False) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=is_cast):
        model(torch.zeros(1, 3, 4, 4))


def is_so_already(make: Any, knob: Knob) -> None:
    """A program that has turned a knob by itself."""
    if knob is Knob.PERSISTENT:
        make(DataLoader, Squares(), num_workers=1, persistent_workers=True)
    elif knob is Knob.PIN:
        make(DataLoader, Squares(), pin_memory=True)
    elif knob is Knob.LAYOUT:
        run_model(nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    elif knob is Knob.PRECISION:
        run_model(nn.Conv2d(3, 2, 3), is_cast=True)
    elif knob is Knob.COMPILER:
        model = nn.Conv2d(3, 2, 3)
        model._compiled_call_impl = model._call_impl  # what `compile` sets
        run_model(model)
    elif knob is Knob.OPTIMIZER:
        torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, fused=True)
    else:
        torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1).zero_grad()


@pytest.mark.parametrize(
    "knob",
    [
        Knob.PERSISTENT,
        Knob.PIN,
        Knob.LAYOUT,
        Knob.PRECISION,
        Knob.COMPILER,
        Knob.OPTIMIZER,
        Knob.GRADIENTS,
    ],
)
def test_what_is_so_already_has_failed(make: Any, knob: Knob) -> None:
    with fixed({knob.value: "fused" if knob is Knob.OPTIMIZER else True}) as applied:
        is_so_already(make, knob)
        failures = applied.facts(None).failures
    assert list(failures) == [knob.value]
    assert "already" in failures[knob.value]


def test_one_loader_that_is_not_so_yet_is_enough(make: Any) -> None:
    with fixed({Knob.PERSISTENT.value: True}) as applied:
        make(DataLoader, Squares(), num_workers=1, persistent_workers=True)
        make(DataLoader, Squares(), num_workers=1)
        assert applied.facts(None).failures == {}


@pytest.fixture
def flags() -> Iterator[None]:
    """Puts the flags of torch's backends back."""
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.benchmark, cudnn.allow_tf32
    yield
    cudnn.benchmark, cudnn.allow_tf32 = before
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("flags")
def test_a_flag_that_the_program_turns_off_has_failed() -> None:
    settings = {Knob.CUDNN.value: True, Knob.TF32.value: True}
    with fixed(settings) as applied:
        assert applied.facts(None).failures == {}
        torch.backends.cudnn.benchmark = False
        assert applied.facts(None).failures == {
            Knob.CUDNN.value: "the program turns torch.backends.cudnn.benchmark off"
        }
        torch.set_float32_matmul_precision("highest")
        assert set(applied.failures) == set(settings)


@pytest.mark.usefixtures("flags")
def test_flags_that_the_program_turns_on_by_itself_are_told() -> None:
    with fixed({}) as applied:
        assert applied.facts(None).already == ()
        torch.backends.cudnn.benchmark = True
        assert applied.facts(None).already == (Knob.CUDNN.value,)
        torch.set_float32_matmul_precision("high")
        assert set(applied.facts(None).already) == {Knob.CUDNN.value, Knob.TF32.value}


# Sameness


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ((1.005, 2.0, 1.0), None),
        ((1.02, 2.0, 1.0), "its first loss differs by 2 % from the program as it is; 1 % would do"),
        # Later ones go their own way, as long as they are alike on the whole.
        ((1.0, 2.4, 0.7), None),
        ((1.0, 2.4, 1.0), "the mean of its first 3 losses differs by 10 %"),
    ],
)
def test_a_loss_beyond_the_tolerance_is_told(losses: Any, reason: str | None) -> None:
    base = FixFacts({}, (1, 2), (1.0, 2.0, 1.0), None)
    fix = Fix("", Knob.PRECISION, same=Same.BATCHES, tolerance=0.01, drift=0.05)
    found = compare_fixed(base, FixFacts({}, (1, 2), losses, None), (fix,))
    assert (found.same is False) == (reason is not None)
    assert (reason or "") in (found.reason or "")


def test_what_computes_nothing_otherwise_gives_the_same_losses_to_the_bit() -> None:
    base = FixFacts({}, (1, 2), (1.0, 2.0), None)
    exact = Fix("", Knob.WORKERS)
    assert compare_fixed(base, base, (exact,)).same is True
    assert compare_fixed(base, FixFacts({}, (1, 2), (1.0, 2.0001), None), (exact,)).same is False


def test_other_batches_are_told() -> None:
    base = FixFacts({}, (1, 2), (1.0, 2.0), None)
    found = compare_fixed(base, FixFacts({}, (1, 3), (1.0, 2.0), None), (Fix("", Knob.DATA),))
    assert (found.same, found.reason) == (
        False,
        "its batches differ from those of the program as it is",
    )


def test_a_program_that_differs_from_run_to_run_cannot_be_verified() -> None:
    one, other = FixFacts({}, (1,), (1.0,), None), FixFacts({}, (1,), (1.5,), None)
    found = compare_bases(one, other)
    assert found.same is None
    assert "seed it" in (found.reason or "")


def watched(act: Callable[[torch.Tensor], Any]) -> list[float | None]:
    """The losses that are noted, with the hooks that observe above."""
    clock = LoopClock(lambda steps, marks: None)
    hooks = Hooks(clock)
    same = Sameness(8)
    same.install(hooks)
    hooks.install()
    try:
        act(torch.full((3,), 2.0, requires_grad=True))
    finally:
        hooks.uninstall()
        clock.stop()
    return same.losses


def through_checkpoint(x: torch.Tensor) -> None:
    again = torch.utils.checkpoint.checkpoint(torch.square, x, use_reentrant=True)
    again.sum().backward()


class Plain(torch.Tensor):
    """A subclass: torch calls it through `__torch_function__`."""


@pytest.mark.parametrize(
    ("act", "losses"),
    [
        (lambda x: x.sum().backward(), [6.0]),
        (lambda x: torch.autograd.backward(x.sum()), [6.0]),
        (lambda x: torch.autograd.backward([x.sum(), x.prod()]), [14.0]),
        (lambda x: torch.autograd.backward(x, torch.ones(3)), [None]),
        (lambda x: torch.autograd.grad(x.sum(), x), []),
        (lambda x: x.sum().as_subclass(Plain).backward(), [6.0]),
        (lambda x: torch.autograd.backward(x.sum().as_subclass(Plain)), [6.0]),
        (through_checkpoint, [12.0]),
    ],
)
def test_each_backward_is_noted_once(act: Any, losses: list[float | None]) -> None:
    functions = torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad
    assert watched(act) == losses
    assert (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad) == functions


def test_watching_losses_leaves_what_the_compiler_knows_by_identity() -> None:
    functions = torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad
    with fixed({}):
        assert (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad) == functions


def test_equal_batches_have_one_checksum() -> None:
    x = torch.arange(6.0)
    assert checksum((x, {"y": 1})) == checksum((x.clone(), {"y": 1}))
    assert checksum(x) != checksum(x + 1)
    assert checksum(x) != checksum(x.reshape(2, 3))
    assert checksum(x) != checksum(x.double())
    assert checksum(TensorDataset(x)[0:2]) == checksum((x[0:2],))


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's malloc")
def test_freed_memory_is_kept() -> None:
    """What is allocated and freed again and again costs page faults only at first."""
    code = """
import ctypes, resource, sys
from profkit.probe.fixes import AppliedFixes
from profkit.probe.replacements import Replacements
from profkit.schema.fix import FixOrder, Knob

if sys.argv[1] == "kept":
    fixes = AppliedFixes(FixOrder({Knob.HEAP.value: True}))
    fixes.install(Replacements())
    assert fixes.facts(None).failures == {}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = (ctypes.c_void_p,)
size = 25 << 20
for i in range(8):
    if i == 4:  # malloc has learned by then what it learns by itself
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [libc.malloc(size) for _ in range(4)]
    for one in held:
        libc.memset(one, 1, size)
    for one in held:
        libc.free(one)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", code, how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("plain", "kept")
    }
    assert faults["kept"] < faults["plain"] / 10
