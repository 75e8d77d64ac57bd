"""One training by its rung's name: `python -m experiments.mnist.program batch_128 --seed 3`.

A process of its own for each: what an earlier training left warm is no part of a later one.
"""

import argparse
import os
from pathlib import Path

import msgspec
import torch

from profkit.workloads.mnist_files import DATA_VARIABLE, locate

from .ladders import rung_named
from .train import train


def chosen_device(name: str) -> torch.device:
    """The device; `auto` is a GPU where there is one.

    Raises:
        SystemExit: a GPU is asked for that is not there.
    """
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_gpu else "cpu"
    if name == "cuda" and not has_gpu:
        raise SystemExit("--device cuda: torch sees no GPU here; give --device cpu, or auto")
    return torch.device(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung")
    parser.add_argument("--isolate", action="store_true", help="the change without its riders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, help="at most so many")
    parser.add_argument("--out", type=Path, help="where the result goes, as JSON")
    given = parser.parse_args()
    device = chosen_device(given.device)
    data_dir = given.data_dir or os.environ.get(DATA_VARIABLE)
    files = locate(Path(data_dir) if data_dir else None)
    if files.name != "MNIST":
        raise SystemExit(f"real MNIST is needed: give --data-dir, or set {DATA_VARIABLE}")
    try:
        rung = rung_named(given.rung)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    recipe = rung.isolated if given.isolate else rung.recipe
    found = train(recipe, files, seed=given.seed, device=device, most_epochs=given.epochs)
    print(
        f"{rung.name}, seed {given.seed}: {100 * found.accuracy:.2f} % after "
        f"{len(found.epochs)} epochs, {found.seconds:.3g} s"
    )
    if given.out is not None:
        given.out.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
