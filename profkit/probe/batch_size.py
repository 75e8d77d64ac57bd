"""How many samples a batch has."""

from collections.abc import Callable
from typing import Any

from ..interruption import pass_on

_DEEPEST_BATCH = 4


def batch_sizer(batch: object) -> Callable[[Any], int] | None:
    """How to tell the size of batches like this one: from the first tensor, None without one.

    Looked up once an iteration over the loader, since it costs more than telling the size.
    """
    path: list[Any] = []
    leaf: Any = batch
    try:
        while isinstance(leaf, (tuple, list, dict)) and leaf and len(path) < _DEEPEST_BATCH:
            path.append(next(iter(leaf)) if isinstance(leaf, dict) else 0)
            leaf = leaf[path[-1]]
        if not getattr(leaf, "shape", None):
            return None
    except Exception as error:  # a user's batch may be anything
        pass_on(error)
        return None
    if path == [0]:
        return _size_of_first

    def size(batch: Any) -> int:
        for key in path:
            batch = batch[key]
        return len(batch)

    return len if not path else size


def _size_of_first(batch: Any) -> int:
    return len(batch[0])
