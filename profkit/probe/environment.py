"""The machine, versions and settings that a time depends on; no host name, no path."""

import contextlib
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import psutil

from ..interruption import pass_on
from ..schema.run import Environment, Hardware

PACKAGES = (
    "profkit",
    "torch",
    "torchvision",
    "numpy",
    "py-spy",
    "line_profiler",
    "tensorboard",
    "torch-tb-profiler",
)
"""Distributions whose version can change a time or a trace."""

_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of a control group: its limit, what it uses, and which part of that are files that were read;
versions 2 and 1."""

GIT_LIMIT_S = 0.5
"""A repository on a slow disk must not hold up the training."""

T = TypeVar("T")


def read_environment(*, ask_for_devices: bool = True) -> Environment:
    """What can be told about machine and settings without importing or starting anything.

    Torch is asked for its devices and threads only where it is already imported. What cannot
    be told is None, or missing from the versions. Never raises; about 0.02 s.

    Args:
        ask_for_devices: asking for GPUs makes torch refuse to use them in processes forked
            later: False in a program that has not used one yet.
    """
    torch = sys.modules.get("torch")
    return Environment(
        hardware=_hardware(torch if ask_for_devices else None),
        versions=_versions(),
        intra_op_threads=_try(lambda: int(torch.get_num_threads())) if torch else None,
        inter_op_threads=_try(lambda: int(torch.get_num_interop_threads())) if torch else None,
        commit=_try(_commit),
    )


def read_settings(known: Environment, *, ask_for_devices: bool) -> Environment:
    """The same with what torch alone can tell, as it is now; the rest stays as it was read.

    For a program that is running: it costs microseconds.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return known
    gpus = (_try(lambda: _gpus(torch)) or ()) if ask_for_devices else known.hardware.gpus
    return replace(
        known,
        hardware=replace(known.hardware, gpus=gpus),
        intra_op_threads=_try(lambda: int(torch.get_num_threads())),
        inter_op_threads=_try(lambda: int(torch.get_num_interop_threads())),
    )


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may keep busy: its affinity, at most the whole cores of its quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cpu_quota(cgroups)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def usable_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process can have: the machine's, at most its container's."""
    limits = [int(psutil.virtual_memory().total)]
    for directory in _own_groups(cgroups, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(directory / name)
            if text.isdigit():
                limits.append(int(text))
    return min(limits)


def free_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process can still take: the machine's, at most its container's.

    What a container keeps of files that were read counts as free, as it does for the machine.
    """
    left = [int(psutil.virtual_memory().available)]
    for directory in _own_groups(cgroups, "memory"):
        for limit, used, cache in _MEMORY_FILES:
            numbers = [_text(directory / limit), _text(directory / used)]
            if all(number.isdigit() for number in numbers):
                stat = dict(re.findall(r"(\w+) (\d+)", _text(directory / "memory.stat")))
                left.append(int(numbers[0]) - int(numbers[1]) + int(stat.get(cache, 0)))
    return max(0, min(left))


def _hardware(torch: Any) -> Hardware:
    logical = os.cpu_count() or 1
    return Hardware(
        processor=_try(_processor) or platform.machine() or "unknown",
        frequency_mhz=_try(_frequency),
        physical_cores=_try(lambda: psutil.cpu_count(logical=False)),
        logical_cores=logical,
        usable_cores=_try(usable_cores) or logical,
        memory_bytes=_try(usable_memory),
        gpus=(_try(lambda: _gpus(torch)) or ()) if torch else (),
        # The numbers of a kernel's release say enough; what follows may name a company's build.
        system=f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    )


def _try(read: Callable[[], T]) -> T | None:
    # A fact that cannot be read is a fact less; it must never cost a training run.
    try:
        return read()
    except Exception as error:
        pass_on(error)
        return None


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.check_output(command, text=True, timeout=GIT_LIMIT_S).strip()
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "hardware", "cpu model"):
            return value.strip()
    return platform.processor()


def _frequency() -> float | None:
    # The highest where it is known: the current one changes while it is being read.
    frequency = psutil.cpu_freq()
    return float(frequency.max or frequency.current) or None


def _gpus(torch: Any) -> tuple[str, ...]:
    if torch.cuda.is_available():
        return tuple(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    if torch.backends.mps.is_available():
        return ("Apple GPU (MPS)",)
    return ()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(Exception):  # not installed, or not by a package manager
            found[package] = metadata.version(package)
    return found


def _commit() -> str | None:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    # Without its optional locks a reading git never gets in the way of another one.
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GIT_LIMIT_S,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu_quota(cgroups: Path) -> float | None:
    """Cores of CPU time a period, the smallest on the way up; None without a limit."""
    quotas = []
    for directory in _own_groups(cgroups, "cpu"):
        words = _text(directory / "cpu.max").split() or [
            _text(directory / "cpu.cfs_quota_us"),
            _text(directory / "cpu.cfs_period_us"),
        ]
        # Version 2 writes `max`, version 1 writes -1 where nothing limits.
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _own_groups(cgroups: Path, controller: str) -> list[Path]:
    """This process's control groups, from its own up to the root; both versions."""
    found: list[Path] = []
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root = cgroups
        elif controller in controllers.split(","):
            root = cgroups / controller
        else:
            continue
        # Inside a container the path may be the host's: what is not there reads as no limit.
        inner = root / path.lstrip("/")
        found += [each for each in (inner, *inner.parents) if each.is_relative_to(root)]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
