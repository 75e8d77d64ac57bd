"""One training by its rung's name: `python -m experiments.mnist.program batch_128 --seed 3`.

A process of its own for each: what an earlier training left warm is no part of a later one.
"""

import argparse
import ctypes
import sys
from pathlib import Path

import msgspec
import torch

from profkit.errors import ProfkitError
from profkit.workloads.mnist_files import DATA_VARIABLE, DataFiles, locate

from .ladders import rung_named
from .recipe import Recipe, changed, value_of
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


def mnist_at(data_dir: Path | None) -> DataFiles:
    """The real images, in the directory or where profkit finds them.

    Raises:
        SystemExit: they are not there.
        DataError: they are not what they should be.
    """
    files = locate(data_dir)
    if files.name != "MNIST":
        raise SystemExit(f"real MNIST is needed: give --data-dir, or set {DATA_VARIABLE}")
    return files


def gap_of(recipe: Recipe) -> str | None:
    """What of the recipe cannot be done on this system and is left out; None: all can be."""
    if not recipe.compute.keeps_freed_memory or hasattr(ctypes.CDLL(None), "mallopt"):
        return None
    return "freed memory is not kept: the C library has no mallopt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung")
    parser.add_argument("--isolate", action="store_true", help="the change without its riders")
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="of the recipe, such as data.batch_size=512; may be repeated",
    )
    parser.add_argument(
        "--validate", action="store_true", help="on the last training images, left out of training"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, help="at most so many")
    parser.add_argument("--out", type=Path, help="where the result goes, as JSON")
    given = parser.parse_args()
    try:
        device = chosen_device(given.device)
        files = mnist_at(given.data_dir)
        rung = rung_named(given.rung)
        recipe = rung.isolated if given.isolate else rung.recipe
        for one in given.change:
            path, _, text = one.partition("=")
            recipe = changed(recipe, {path: value_of(recipe, path, text)})
        gap = gap_of(recipe)
        if gap is not None:
            recipe = changed(recipe, {"compute.keeps_freed_memory": False})
            print(f"gap: {gap}", file=sys.stderr)
        found, _ = train(
            recipe,
            files,
            seed=given.seed,
            device=device,
            most_epochs=given.epochs,
            is_validated=given.validate,
        )
    except (ValueError, ProfkitError) as error:
        raise SystemExit(str(error)) from None
    print(
        f"{rung.name}, seed {given.seed}: {100 * found.accuracy:.2f} % after "
        f"{len(found.epochs)} epochs, {found.seconds:.3g} s"
    )
    if given.out is not None:
        given.out.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
