"""What of profkit works on this machine, found out by trying it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from .environment import usable_cores
from .stack_samples import probe_ptrace

State = Literal["works", "repaired", "absent"]


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that profkit can use.

    Attributes:
        name: what it is, in a few words.
        state: `repaired` where it works thanks to something that profkit does.
        detail: version, count or reason, without paths of this machine.
        advice: what to do where it does not work; None where there is nothing to do.
    """

    name: str
    state: State
    detail: str
    advice: str | None = None


Check = Callable[[], Capability]


def examine(checks: dict[str, Check]) -> tuple[Capability, ...]:
    """The outcome of each check, in order; one that fails is an absent capability.

    Args:
        checks: by the name that stands for the check if it fails.
    """
    return tuple(_examined(name, check) for name, check in checks.items())


def _examined(name: str, check: Check) -> Capability:
    try:
        return check()
    except Exception as error:  # the doctor must give a line for what is broken, never break
        words = " ".join(str(error).split())[:160]
        return Capability(name, "absent", f"{type(error).__name__}: {words}", "reinstall profkit")


def _stacks() -> Capability:
    reason = probe_ptrace()
    if reason is None:
        return Capability("py-spy (stacks)", "works", f"{_version('py-spy')}, reads this process")
    found, _, advice = reason.partition(": ")
    return Capability("py-spy (stacks)", "absent", found, advice or None)


def _lines() -> Capability:
    from line_profiler import LineProfiler

    profiler: Any = LineProfiler()

    def sample() -> int:
        return 1

    profiler.add_function(sample)
    profiler.runcall(sample)
    if not any(profiler.get_stats().timings.values()):
        advice = "no other tracer may run (coverage, a debugger)"
        return Capability("line_profiler (lines)", "absent", "times no line here", advice)
    return Capability("line_profiler (lines)", "works", _version("line_profiler"))


def _torch() -> Capability:
    import torch

    return Capability("torch", "works", str(torch.__version__))


def _gpu() -> Capability:
    import torch

    if not torch.cuda.is_available():
        advice = "nothing to do on a machine without one: runs are timed on the CPU"
        return Capability("GPU", "absent", "torch sees none", advice)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Capability("GPU", "works", ", ".join(names))


def _cupti() -> Capability:
    import torch

    profiler: Any = torch.profiler
    if profiler.ProfilerActivity.CUDA in profiler.supported_activities():
        return Capability("CUPTI (GPU kernels in traces)", "works", "kernels can be traced")
    advice = "needed only with a GPU: install a CUDA build of torch, and let it use the counters"
    return Capability("CUPTI (GPU kernels in traces)", "absent", "this torch has none", advice)


def _threads() -> Capability:
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    detail = f"{threads} intra-op threads on {cores} usable cores"
    if threads <= cores:
        return Capability("threads and cores", "works", detail)
    advice = f"set OMP_NUM_THREADS={cores}, or call torch.set_num_threads({cores})"
    return Capability("threads and cores", "absent", detail, advice)


def _tensorboard() -> Capability:
    name = "TensorBoard and its PyTorch plugin"
    plugins = {point.name for point in metadata.entry_points(group="tensorboard_plugins")}
    missing = [
        package for package in ("tensorboard", "torch-tb-profiler") if not _is_installed(package)
    ]
    if missing or "torch_profiler" not in plugins:
        wanted = " ".join(missing or ["torch-tb-profiler"])
        return Capability(name, "absent", "not installed", f"pip install {wanted}")
    detail = f"{_version('tensorboard')} with {_version('torch-tb-profiler')}"
    return Capability(name, "works", detail)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _version(package: str) -> str:
    return metadata.version(package)


PROBE_CHECKS: dict[str, Check] = {
    "py-spy (stacks)": _stacks,
    "line_profiler (lines)": _lines,
    "torch": _torch,
    "GPU": _gpu,
    "CUPTI (GPU kernels in traces)": _cupti,
    "threads and cores": _threads,
    "TensorBoard and its PyTorch plugin": _tensorboard,
}
