"""What a machine computes with, in words."""

import os
import platform
from pathlib import Path

import torch


def hardware_paragraph() -> str:
    """Processor, frequency, physical and logical cores, memory and GPU, as far as they are told."""
    known = _cpu_info()
    logical = os.cpu_count() or 1
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    name = known.get("model name") or platform.processor() or platform.machine()
    megahertz = known.get("cpu MHz")
    frequency = "an unknown frequency" if megahertz is None else f"{float(megahertz) / 1e3:.2f} GHz"
    physical = known.get("physical cores", "an unknown number of")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{name} at {frequency}, {physical} physical and {logical} logical cores, of which this "
        f"process may use {may_use}; {torch.get_num_threads()} intra-op threads; "
        f"{memory:.1f} GiB of memory; {gpu}; {platform.system()} {platform.machine()}."
    )


def _cpu_info() -> dict[str, str]:
    """Fields of the first processor, and how many physical cores there are; Linux only."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    processors = [
        {name.strip(): value.strip() for name, _, value in fields}
        for fields in (
            [line.partition(":") for line in block.splitlines()]
            for block in text.strip().split("\n\n")
        )
    ]
    found = dict(processors[0])
    cores = {(one.get("physical id"), one.get("core id")) for one in processors}
    if None not in {core for _, core in cores}:
        found["physical cores"] = str(len(cores))
    return found
