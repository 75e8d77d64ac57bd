"""MNIST through torchvision, as the baseline's dataset."""

from .mnist_files import DataFiles
from .torchvision_repair import import_torchvision

# Before anything of torchvision is imported; loader workers that are spawned import this module
# for the class below, and are repaired by that.
import_torchvision()

from torchvision import datasets  # noqa: E402
from torchvision.transforms import Compose, Normalize, ToTensor  # noqa: E402

MEAN, STD = 0.1307, 0.3081
"""Of the training pixels, 0 to 1. Source: the PyTorch example for MNIST."""


class MNIST(datasets.MNIST):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's own; the name stays, for torchvision makes it the folder's."""

    def _check_legacy_exist(self) -> bool:
        # torchvision prefers a `MNIST/processed` that old versions left, which nobody has checked.
        return False


def open_dataset(files: DataFiles, *, train: bool) -> MNIST:
    """The training or test set: PIL image, to tensor, normalised.

    Items are `(image, label)`: float32 (1, 28, 28) and int.
    """
    transform = Compose([ToTensor(), Normalize((MEAN,), (STD,))])
    return MNIST(str(files.root), train=train, transform=transform)


def download(root: str) -> None:
    """Let torchvision fetch the files into `root`; raises whatever it raises."""
    MNIST(root, train=True, download=True)
