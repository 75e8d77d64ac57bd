"""How fast a trained perceptron answers: eager, traced, compiled, exported, and in fewer bits.

Each way is made from the same weights, checked against the test images, and timed in rounds whose
order is drawn, so that drift of the machine meets all of them.
"""

import copy
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

BATCHES = (1024, 1)
ROUNDS = 40
ROUND_S = 0.05
"""What the calls of one way take in a round, about."""

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to have a model answer.

    Attributes:
        name: in a report.
        make: given the model, images of the batch that will be asked about, and a directory that
            it may use.
        source: where it is described.
    """

    name: str
    make: Callable[[nn.Module, Tensor, Path], Answer]
    source: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What was measured of a way, for one batch size.

    Attributes:
        way: its name.
        source: where it is described.
        batch_size: images a call.
        making_s: until it can be called.
        first_s: what its first call took; later ones of the warm-up are left out.
        calls_s: the mean call of a round, one a round.
        accuracy: on the test images, 0 to 1.
        gap: why there is nothing else; None where there is.
    """

    way: str
    source: str
    batch_size: int
    making_s: float | None = None
    first_s: float | None = None
    calls_s: tuple[float, ...] = ()
    accuracy: float | None = None
    gap: str | None = None


def _eager(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    return model


def _traced(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    traced: Answer = torch.jit.freeze(torch.jit.trace(model, images))
    return traced


def _compiled(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    return torch.compile(model, dynamic=False)


def _exported(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    program = torch.export.export(model, (images,))
    package = torch._inductor.aoti_compile_and_package(
        program, package_path=str(directory / f"model-{len(images)}.pt2")
    )
    loaded: Answer = torch._inductor.aoti_load_package(package)
    return loaded


def _in_bf16(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    half = copy.deepcopy(model).to(torch.bfloat16)
    return lambda images: half(images.to(torch.bfloat16))


def _in_int8(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    quantized: Answer = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
    )
    return quantized


WAYS = (
    Way("eager", _eager, "torch.inference_mode"),
    Way("TorchScript trace, frozen", _traced, "torch.jit.trace"),
    Way("torch.compile", _compiled, "Ansel et al. 2024, PyTorch 2, doi:10.1145/3620665.3640366"),
    Way("torch.export, AOTInductor", _exported, "torch.export"),
    Way("bf16", _in_bf16, "Kalamkar et al. 2019, arXiv:1905.12322"),
    Way("int8, dynamic", _in_int8, "Jacob et al. 2018, arXiv:1712.05877"),
)


def answer_all(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directory: Path,
    *,
    ways: Sequence[Way] = WAYS,
    batch_sizes: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
) -> list[Answered]:
    """Time every way of having a model answer.

    Args:
        model: trained, in evaluation mode.
        images: to ask about, (n, 1, 28, 28); as many as the largest batch at least.
        labels: of them.
        directory: for what is compiled.
        ways: which.
        batch_sizes: images a call, each by itself.
        rounds: each way once in each.
    """
    found: list[Answered] = []
    for batch_size in batch_sizes:
        ready: list[tuple[Answered, Answer, int]] = []
        for way in ways:
            one, answer, calls = _made(way, model, images, labels, batch_size, directory)
            if answer is None:
                found.append(one)
            else:
                ready.append((one, answer, calls))
        taken: list[list[float]] = [[] for _ in ready]
        order = list(range(len(ready)))
        chance = random.Random(0)
        with torch.inference_mode():
            for _ in range(rounds):
                chance.shuffle(order)
                for row in order:
                    _, answer, calls = ready[row]
                    taken[row].append(_mean_call_s(answer, images[:batch_size], calls))
        found += [
            replace(one, calls_s=tuple(each))
            for (one, _, _), each in zip(ready, taken, strict=True)
        ]
    return found


def _made(
    way: Way, model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, directory: Path
) -> tuple[Answered, Answer | None, int]:
    """A way that is warm, and how many of its calls make a round; None where it cannot be made."""
    asked = images[:batch_size]
    try:
        # What it warns of is not of this comparison: deprecations of what is compared.
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            began = time.perf_counter()
            answer = way.make(model, asked, directory)
            made = time.perf_counter()
            answer(asked)
            called = time.perf_counter()
            accuracy = _accuracy(answer, images, labels, batch_size)
            for _ in range(10):
                answer(asked)
            began_call = time.perf_counter()
            answer(asked)
            calls = max(1, round(ROUND_S / max(1e-6, time.perf_counter() - began_call)))
    except Exception as error:  # whatever a compiler lacks here: a gap, the others go on
        words = str(error).strip().splitlines() or [type(error).__name__]
        return Answered(way.name, way.source, batch_size, gap=words[0][:200]), None, 0
    one = Answered(way.name, way.source, batch_size, made - began, called - made, (), accuracy)
    return one, answer, calls


def _accuracy(answer: Answer, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Of whole batches only: a compiled model takes no other."""
    whole = len(images) - len(images) % batch_size
    right = [
        int(
            (
                answer(images[row : row + batch_size]).argmax(1) == labels[row : row + batch_size]
            ).sum()
        )
        for row in range(0, whole, batch_size)
    ]
    return sum(right) / whole


def _mean_call_s(answer: Answer, images: Tensor, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        answer(images)
    return (time.perf_counter() - began) / calls
