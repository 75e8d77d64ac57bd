"""Trainings of which only the accuracy counts: here, or on a Ray cluster."""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from .bench import Bench, tell
from .ladder import Rung
from .measuring import TrainingFailedError, keep, trained
from .results import Result, key_of
from .task import Task
from .train import Training


class Engine(Enum):
    """Where trainings run."""

    LOCAL = "local"
    RAY = "ray"


def reach(
    rungs: Sequence[Rung], seeds: int, engine: Engine, bench: Bench
) -> dict[str, list[Result]]:
    """Train each rung with each seed, those left out that are kept already, by whatever command.

    Args:
        rungs: which.
        seeds: of each.
        engine: where; on a cluster they run beside each other.
        bench: this machine, and where results go, each as soon as it ends.

    Returns:
        For each rung the results of its seeds, in the order of these.
    """
    tasks = [Task(rung, seed) for seed in range(seeds) for rung in rungs]
    known = {
        row: bench.results.of(key_of(task, bench.machine), None) for row, task in enumerate(tasks)
    }
    missing = [task for row, task in enumerate(tasks) if known[row] is None]
    ended = {Engine.LOCAL: _here, Engine.RAY: _farmed}[engine]
    for task, training in ended(missing, bench):
        known[tasks.index(task)] = keep(task, training, None, bench)
        tell(f"{task.words}: {100 * training.accuracy:.2f} %")
    found: dict[str, list[Result]] = {rung.name: [] for rung in rungs}
    for row, task in enumerate(tasks):
        result = known[row]
        assert result is not None  # kept, or just trained
        found[task.rung.name].append(result)
    return found


def _here(tasks: Sequence[Task], bench: Bench) -> Iterator[tuple[Task, Training]]:
    for task in tasks:
        held = (bench.results.lock,)
        yield task, trained(task, bench.machine.device, bench.options, held)


def _farmed(tasks: Sequence[Task], bench: Bench) -> Iterator[tuple[Task, Training]]:
    """As many at a time as the cluster has cores, or GPUs; each as soon as it ends."""
    ray = _ray()
    if not ray.is_initialized():
        # A cluster that RAY_ADDRESS names, else one on this machine.
        ray.init(log_to_driver=False, include_dashboard=False)
    device = bench.machine.device
    need = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    remote = ray.remote(**need)(trained)
    running = {remote.remote(task, device, bench.options): task for task in tasks}
    try:
        while running:
            (ended, *_), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ended)
            try:
                training = ray.get(ended)
            except ray.exceptions.RayError as error:
                words = str(error).strip().splitlines()[-1]
                raise TrainingFailedError(f"{task.words}: {words}") from None
            yield task, training
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise TrainingFailedError(
            "--engine ray: Ray is not installed; pip install 'profkit[ray]'"
        ) from None
    return ray
