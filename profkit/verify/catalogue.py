"""The fixes that profkit can apply itself: each a declared change, for a program as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..schema.fix import Fix, Knob, Same
from ..schema.paced import InstanceFacts
from ..schema.stage import Stage
from .recipes import batched_fetch, in_memory

LOW_PRECISION, LOW_PRECISION_DRIFT = 0.02, 0.05
"""Of the loss where numbers have the 8 bits of bf16's mantissa, or the 11 of TF32's."""
REORDERED, REORDERED_DRIFT = 1e-4, 0.02
"""Of the loss where sums are taken in another order: layouts, fused kernels, compilers. Adam turns
a gradient's last bit into a step of full length where the gradient is nearly 0."""
_rounded = partial(Fix, same=Same.BATCHES, tolerance=LOW_PRECISION, drift=LOW_PRECISION_DRIFT)
_reordered = partial(Fix, same=Same.BATCHES, tolerance=REORDERED, drift=REORDERED_DRIFT)


@dataclass(frozen=True, slots=True)
class Ground:
    """What decides which fixes a program can have.

    Attributes:
        facts: of an instance of it as it is.
        cores: that it may use.
        stage_ns: what each stage takes in its step; None for one that was never seen.
    """

    facts: InstanceFacts
    cores: int
    stage_ns: dict[Stage, float | None]

    @property
    def workers(self) -> int | None:
        """Loader workers; None where no DataLoader feeds the training."""
        loader = self.facts.loader
        return None if loader is None else loader.num_workers

    @property
    def is_on_gpu(self) -> bool:
        """Whether it trains on another device than the processor."""
        return self.facts.device not in (None, "cpu")


def candidates(ground: Ground) -> tuple[Fix, ...]:
    """The fixes that could do something for a program."""
    found: list[Fix] = []
    for make in _MAKERS:
        found += make(ground)
    already = () if ground.facts.fixes is None else ground.facts.fixes.already
    return tuple(fix for fix in found if fix.knob.value not in already)


def _data(ground: Ground) -> list[Fix]:
    if ground.workers is None:
        return []
    fixes = ground.facts.fixes
    return [
        Fix(
            name="data in memory",
            knob=Knob.DATA,
            helps="samples depend neither on chance nor on the epoch, and all of them fit decoded",
            recipe=in_memory(None if fixes is None else fixes.structure),
            source="the same batches, checked to the bit before and while it is measured",
        ),
        Fix(
            name="batched fetch",
            knob=Knob.FETCH,
            helps="samples are cheap rows of tensors, and calling for each of them is what costs",
            recipe=batched_fetch(),
            source="torch.utils.data, loading non-batched data: dataset[[...]] is a whole batch",
        ),
    ]


def _argument(name: str, knob: Knob, value: Any, argument: str, helps: str) -> Fix:
    """A fix that is one argument of a DataLoader."""
    return Fix(
        name=name,
        knob=knob,
        value=value,
        helps=helps,
        recipe=(f"DataLoader(..., {argument}={value})",),
        source="torch.utils.data.DataLoader",
    )


def _workers(ground: Ground) -> list[Fix]:
    now = ground.workers
    if now is None:
        return []
    counts = sorted({0, 1, 2, max(1, ground.cores // 2), max(1, ground.cores)} - {now})
    return [
        _argument(
            "no workers" if not count else f"{count} worker{'s' * (count > 1)}",
            Knob.WORKERS,
            count,
            "num_workers",
            "making a batch takes long, and cores are idle"
            if count > now
            else "workers take the cores that the model needs",
        )
        for count in counts
    ]


def _queue(ground: Ground) -> list[Fix]:
    loader = ground.facts.loader
    if loader is None or not loader.num_workers:
        return []
    ahead = 2 * (loader.prefetch_factor or 2)
    return [
        _argument(
            f"prefetch {ahead}",
            Knob.PREFETCH,
            ahead,
            "prefetch_factor",
            "batches differ in what they cost",
        ),
        _argument(
            "persistent workers",
            Knob.PERSISTENT,
            True,
            "persistent_workers",
            "epochs are short beside the start of workers",
        ),
    ]


def _pinned(ground: Ground) -> list[Fix]:
    if not ground.is_on_gpu or ground.workers is None:
        return []
    helps = "copies to the device take long"
    return [_argument("pinned memory", Knob.PIN, True, "pin_memory", helps)]


def _threads(ground: Ground) -> list[Fix]:
    if ground.is_on_gpu:
        return []
    now = ground.facts.environment.intra_op_threads
    counts = sorted({1, max(1, ground.cores // 2), ground.cores} - {now})
    return [
        _reordered(
            name=f"{count} intra-op thread{'s' * (count > 1)}",
            knob=Knob.THREADS,
            value=count,
            helps="loader workers and the model want more cores than there are, or fewer than "
            "there are",
            recipe=(f"torch.set_num_threads({count})",),
            source="torch.set_num_threads",
        )
        for count in counts
    ]


def _model(ground: Ground) -> list[Fix]:
    return [
        _rounded(
            name="bf16 autocast",
            knob=Knob.PRECISION,
            value="bfloat16",
            helps="the model computes, and the processor has instructions for bf16",
            recipe=(
                f'with torch.autocast("{ground.facts.device or "cpu"}", torch.bfloat16):',
                "    out = model(x)",
                "loss = loss_fn(out.float(), y)",
            ),
            source="torch.autocast",
        ),
        _reordered(
            name="channels_last",
            knob=Knob.LAYOUT,
            helps="the model is made of convolutions",
            recipe=(
                "model = model.to(memory_format=torch.channels_last)",
                "x = x.contiguous(memory_format=torch.channels_last)",
            ),
            source="torch.channels_last",
        ),
        _reordered(
            name="torch.compile",
            knob=Knob.COMPILER,
            helps="the model has many small operations",
            recipe=("model.compile()",),
            source="torch.nn.Module.compile",
        ),
    ]


def _heap(ground: Ground) -> list[Fix]:
    if ground.is_on_gpu or not ground.facts.environment.hardware.system.startswith("Linux"):
        return []
    return [
        Fix(
            name="keep freed memory",
            knob=Knob.HEAP,
            value=True,
            helps="large tensors are freed in each step, their memory goes back to the system, and "
            "comes back page by page",
            recipe=(
                "# start it as: MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432 "
                "python ...",
            ),
            source="mallopt(3) of glibc",
        )
    ]


def _optimizer(ground: Ground) -> list[Fix]:
    if ground.stage_ns.get(Stage.OPTIMIZER) is None:
        return []
    fixes = [
        _reordered(
            name=f"{kind} optimizer",
            knob=Knob.OPTIMIZER,
            value=kind,
            helps="the optimizer holds much of the step, or has many small parameters",
            recipe=(f"optimizer = Adam(..., {kind}=True)  # or whichever it is",),
            source="torch.optim",
        )
        for kind in ("fused", "foreach")
    ]
    fixes.append(
        Fix(
            name="zero_grad(set_to_none=True)",
            knob=Knob.GRADIENTS,
            value=True,
            helps="gradients are filled with zeros",
            recipe=("optimizer.zero_grad(set_to_none=True)",),
            source="torch.optim.Optimizer.zero_grad",
        )
    )
    return fixes


def _gpu(ground: Ground) -> list[Fix]:
    if not ground.is_on_gpu:
        return []
    return [
        _reordered(
            name="cuDNN benchmark",
            knob=Knob.CUDNN,
            value=True,
            helps="convolutions have the same shapes in every step",
            recipe=("torch.backends.cudnn.benchmark = True",),
            source="torch.backends.cudnn",
        ),
        _rounded(
            name="TF32",
            knob=Knob.TF32,
            value=True,
            helps="the model multiplies matrices in float32",
            recipe=('torch.set_float32_matmul_precision("high")',),
            source="torch.set_float32_matmul_precision",
        ),
    ]


_MAKERS: tuple[Callable[[Ground], list[Fix]], ...] = (
    _data,
    _workers,
    _queue,
    _pinned,
    _threads,
    _model,
    _heap,
    _optimizer,
    _gpu,
)
