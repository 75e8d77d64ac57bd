"""Trainings of which only the accuracy counts: here, or on a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from .ladder import Rung
from .measuring import Machine, Order, TrainingFailedError, key_on, trained
from .results import Result, Results
from .train import Training


class Engine(Enum):
    """Where trainings run."""

    LOCAL = "local"
    RAY = "ray"


def reach(
    order: Order, engine: Engine, machine: Machine, results: Results, tell: Callable[[str], None]
) -> dict[str, list[Result]]:
    """Train each rung with each seed, those left out that are kept already.

    Args:
        order: what.
        engine: where; trainings on a cluster run beside each other, so that none is timed.
        machine: this one.
        results: kept ones, and where new ones go, each as soon as it ends.
        tell: told what happens.

    Returns:
        For each rung the results of its seeds, in the order of these.
    """
    keys = {
        (rung.name, seed): key_on(rung, seed, machine, is_isolated=False)
        for seed in range(order.seeds)
        for rung in order.rungs
    }
    missing = [
        (rung, seed)
        for seed in range(order.seeds)
        for rung in order.rungs
        if results.of(keys[rung.name, seed], is_timed=False) is None
    ]
    ended = _here if engine is Engine.LOCAL else _farmed
    for rung, seed, training in ended(missing, machine.device, order):
        key = keys[rung.name, seed]
        results.add(Result(key, machine.commit, engine is Engine.LOCAL, training))
        tell(f"{rung.name}, seed {seed}: {100 * training.accuracy:.2f} %")
    found: dict[str, list[Result]] = {rung.name: [] for rung in order.rungs}
    for (name, _), key in keys.items():
        result = results.of(key, is_timed=False)
        assert result is not None  # just made, or kept
        found[name].append(result)
    return found


Task = tuple[Rung, int]


def _here(tasks: Sequence[Task], device: str, order: Order) -> Iterator[tuple[Rung, int, Training]]:
    for rung, seed in tasks:
        yield rung, seed, trained(rung, seed, device, order)


def _farmed(
    tasks: Sequence[Task], device: str, order: Order
) -> Iterator[tuple[Rung, int, Training]]:
    """As many at a time as the cluster has cores, or GPUs; each as soon as it ends."""
    ray = _ray()
    if not ray.is_initialized():
        # A cluster that RAY_ADDRESS names, else one on this machine.
        ray.init(log_to_driver=False, include_dashboard=False)
    need = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    remote = ray.remote(**need)(trained)
    running = {remote.remote(rung, seed, device, order): (rung, seed) for rung, seed in tasks}
    try:
        while running:
            (ended, *_), _ = ray.wait(list(running), num_returns=1)
            rung, seed = running.pop(ended)
            try:
                training = ray.get(ended)
            except ray.exceptions.RayError as error:
                words = str(error).strip().splitlines()[-1]
                raise TrainingFailedError(f"{rung.name} with seed {seed}: {words}") from None
            yield rung, seed, training
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
