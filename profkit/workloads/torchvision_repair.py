"""Imports torchvision beside a CPU build of torch, whose operators its extension cannot load.

torchvision's only PyPI build is made for CUDA. Next to a CPU torch its extension `_C` cannot be
loaded, and `import torchvision` stops at `operator torchvision::nms does not exist`: it registers
shapes for two operators that nobody defined. Datasets, transforms and models need neither, so
declaring their schemas is enough. `ops.nms` then still raises torchvision's own clean error,
because the extension stays unloaded.

Forked processes inherit the repair; spawned ones get it from any module that calls
`import_torchvision()` when it is imported, such as `profkit.workloads.mnist`.
"""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType

import torch

from profkit.errors import InputError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_INSTALL = "install the torchvision that belongs to your torch (pip install torchvision)"

# A Library takes its definitions along when it is collected, so the reference must live on.
_definitions: torch.library.Library | None = None
_lock = threading.Lock()


def import_torchvision() -> ModuleType:
    """Give the torchvision package, repaired if its extension cannot load here.

    A torchvision that imports by itself is left as it is. No random numbers are drawn.

    Returns:
        The imported `torchvision` module.

    Raises:
        InputError: torchvision is not installed, or fails for another reason than its extension.
    """
    global _definitions
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except Exception as error:
            _forget_partial_import()
            if not _lacks_operators(error):
                raise InputError(_explain(error)) from error
        definitions = _define_operators()
        try:
            module = importlib.import_module("torchvision")
        except Exception as error:
            _forget_partial_import()
            raise InputError(_explain(error)) from error
        _definitions = definitions
        return module


def torchvision_state() -> str:
    """Give one line on torchvision: `works`, `repaired: ...`, `missing: ...` or `broken: ...`.

    Imports torchvision to find out; never raises.
    """
    # find_spec raises ValueError for a module in sys.modules that has no spec.
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        return f"missing: {_INSTALL}"
    try:
        import_torchvision()
    except InputError as error:
        return f"broken: {error}"
    if _definitions is None:
        return "works"
    return "repaired: its extension does not load beside this torch; the rest works"


def _lacks_operators(error: Exception) -> bool:
    return (
        isinstance(error, RuntimeError)
        and "operator torchvision::" in str(error)
        and "does not exist" in str(error)
    )


def _define_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _forget_partial_import() -> None:
    # Python drops only the package that failed: submodules that had been imported before stay
    # behind, and the next import would bind them to a package that no longer exists.
    for name in list(sys.modules):
        if name == "torchvision" or name.startswith("torchvision."):
            del sys.modules[name]


def _explain(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
        return f"torchvision is not installed: {_INSTALL}"
    found = " ".join(str(error).split())
    return f"torchvision cannot be imported ({type(error).__name__}: {found}): {_INSTALL}"
