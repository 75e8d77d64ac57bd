"""Fixes of the process: threads, memory, and flags of torch's backends."""

import functools
import os
from typing import Any

import torch

from .replacements import Function, Replacements

KEPT_BYTES, KEPT_MMAP_BYTES = 1 << 30, 32 << 20
"""Freed memory that a process keeps, and the largest piece that comes from there; glibc takes no
larger one."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""


def set_threads(hooks: Replacements, count: int, _: dict[str, str]) -> None:
    """Have operations use so many threads, whatever the program sets."""
    torch.set_num_threads(count)
    owner = os.getpid()

    def keep(original: Function) -> Function:
        @functools.wraps(original)
        def set_num_threads(wanted: int) -> None:
            if os.getpid() != owner:  # a loader worker, which has one
                original(wanted)

        return set_num_threads

    hooks.replace(torch, "set_num_threads", keep)


def keep_freed_memory(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    """Have malloc keep what is freed: given back to the system, it comes back page by page."""
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        raise RuntimeError("the C library has no mallopt")
    for option, size in ((_M_MMAP_THRESHOLD, KEPT_MMAP_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES)):
        if not set_option(option, size):
            raise RuntimeError("the C library refuses it")


def set_cudnn(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    """Have cuDNN try which algorithm is the fastest."""
    torch.backends.cudnn.benchmark = True


def set_tf32(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    """Have float32 matrices multiplied in TF32."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
