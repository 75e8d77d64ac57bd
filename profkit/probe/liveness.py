"""Whether the process that a run was recorded in is still there."""

import os

import psutil

from ..schema.run import ProcessFacts
from .launcher import digest, machine_digest

_SLACK_S = 2.0
"""The moment at which a process began is counted from the machine's start, which moves a little
with its clock. An id comes back only after thousands of others."""


def process_facts() -> ProcessFacts:
    """Which process this one is."""
    process = psutil.Process()
    return ProcessFacts(process.pid, process.create_time(), _where_ids_hold())


def is_alive(process: ProcessFacts) -> bool | None:
    """Whether a process still runs; None where that cannot be told from here."""
    if process.machine != _where_ids_hold():
        return None
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.created_s) > _SLACK_S:
            return False  # another one with its id
        # It is dead, and its parent has not asked for its exit code yet.
        return bool(found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError, OverflowError, ValueError):
        return None


def _where_ids_hold() -> str:
    """The machine, and the container: each counts its processes by itself."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return machine_digest()
    return digest(machine_digest() + namespace)
