"""Checksums of the first batches and the first losses of a training, to hold two runs together."""

import functools
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..interruption import pass_on
from ..schema.fix import Structure
from .replacements import Function, Replacements


class Sameness:
    """Notes the first batches and losses of a program.

    Args:
        most: how many of each.

    Attributes:
        batches: a checksum of each batch; loaders all together, in the order of requests.
        losses: what `backward` was called on, a tensor's or autograd's own; of several tensors,
            their sum.
        structure: of the last batch before the first loss, which belongs to the training.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = False
        self.batches: list[int] = []
        self.losses: list[float | None] = []
        self.structure: Structure | None = None

    def install(self, hooks: Replacements) -> None:
        """Note from now on."""
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        hooks.replace(_BaseDataLoaderIter, "__next__", self._next)
        # What both kinds of `backward` call; the compiler knows those by their identity.
        engine = self._run(torch.autograd.graph._engine_run_backward)
        for owner in (torch.autograd, torch.autograd.graph):
            hooks.replace(owner, "_engine_run_backward", lambda _: engine)

    def _next(self, original: Function) -> Function:
        def fetch(iterator: Any) -> Any:
            batch = original(iterator)
            if not self.losses:
                self.structure = structure_of(batch)
            if len(self.batches) < self._most:
                self.batches.append(_checked(batch))
            return batch

        return fetch

    def _run(self, original: Function) -> Function:
        """The engine; `autograd.grad` calls it as well, and accumulates nothing."""

        @functools.wraps(original)
        def run(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            # A checkpoint calls it again, within and maybe from another thread.
            if self._inside or not kwargs.get("accumulate_grad"):
                return original(tensors, *args, **kwargs)
            self._inside = True
            try:
                if len(self.losses) < self._most:
                    self.losses.append(_number(tensors))
                return original(tensors, *args, **kwargs)
            finally:
                self._inside = False

        return run


def structure_of(batch: Any) -> Structure:
    """How a batch holds its tensors."""
    if isinstance(batch, torch.Tensor):
        return Structure.TENSOR
    if type(batch) in (list, tuple) and _are_tensors(batch):
        return Structure.TUPLE
    if type(batch) is dict and _are_tensors(batch.values()):
        return Structure.DICT
    return Structure.OTHER


def _are_tensors(values: Iterable[Any]) -> bool:
    return all(isinstance(value, torch.Tensor) for value in values)


def _checked(batch: Any) -> int:
    try:
        return checksum(batch)
    except Exception as error:  # a kind of tensor without bytes: no reason to end a training
        pass_on(error)
        return 0


def checksum(batch: Any) -> int:
    """Of all that a batch holds: equal batches have the same one in every process."""
    found = 0
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, torch.Tensor):
            whole = leaf.detach().cpu().contiguous()
            content = whole.reshape(-1).view(torch.uint8).numpy().tobytes()
            found = zlib.crc32(f"{leaf.dtype} {tuple(leaf.shape)}".encode(), found)
        elif hasattr(leaf, "tobytes"):
            content = leaf.tobytes()
        else:
            # An object without words of its own is told by where it lies: nowhere twice.
            words = repr(leaf)
            words = type(leaf).__name__ if " at 0x" in words else words
            content = words.encode("utf-8", "replace")
        found = zlib.crc32(content, found)
    return found


def _number(tensors: Sequence[Any]) -> float | None:
    try:
        value = sum(float(tensor.detach()) for tensor in tensors)
    except (AttributeError, RuntimeError, ValueError, TypeError) as error:  # no single numbers
        pass_on(error)
        return None
    return value if math.isfinite(value) else None
