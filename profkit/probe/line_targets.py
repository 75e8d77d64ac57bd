"""Which Python functions of a loader, model or optimizer are worth timing line by line.

Told by shape alone (callable attributes, `__getitem__`, `forward`), so torchvision's transforms,
one's own and those of any other library are found alike, and none is imported for it.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

Function = Callable[..., Any]

MOST_FUNCTIONS = 64
"""Every timed function makes each of its lines dearer; past these few a table says no more."""
_DEPTH = 6
_COLLATE = "torch.utils.data._utils.collate"


def python_function(target: object) -> FunctionType | None:
    """The function whose lines run when `target` is called; None where it is compiled code.

    Sees through methods, partials, decorators that keep `__wrapped__`, and callable objects
    (modules: their `forward`).
    """
    for _ in range(32):
        if isinstance(target, FunctionType):
            inner = inspect.unwrap(target)
            if inner is target:
                break
            target = inner
        elif isinstance(target, (MethodType, staticmethod, classmethod)):
            target = target.__func__
        elif isinstance(target, functools.partial):
            target = target.func
        elif inspect.isclass(target):
            target = target.__init__
        elif hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        else:
            called = _method(target, "forward") or _method(target, "__call__")
            if called is None or called is target:
                return None
            target = called
    return target if isinstance(target, FunctionType) else None


def loader_functions(dataset: object, collate_fn: Function | None = None) -> tuple[Function, ...]:
    """What runs to make one batch: item access, each transform, collation, and what they call.

    Args:
        dataset: any dataset; wrapped ones (`Subset`, `ConcatDataset`) are looked into.
        collate_fn: the loader's; None stands for torch's own.

    Returns:
        At most `MOST_FUNCTIONS`, each once, outermost first; some may be compiled code.
    """
    found: list[Function] = []
    _walk(dataset, found, set(), 0)
    collate = sys.modules.get(_COLLATE)
    default = getattr(collate, "default_collate", None)
    if collate is not None and (collate_fn is None or collate_fn is default):
        found += [collate.default_collate, collate.collate]
        found += [*getattr(collate, "default_collate_fn_map", {}).values()]
    elif collate_fn is not None:
        found.append(collate_fn)
    return _with_called(found, depth=1)


def module_functions(*models: object) -> tuple[Function, ...]:
    """The `forward` of each model and of the submodules that are not torch's own.

    A model that is made of torch's layers alone (`nn.Sequential`) gives theirs, since there is
    nothing else to show. Plain functions (a loss) are taken as they are.
    """
    forwards: list[Function] = []
    for model in models:
        modules = getattr(model, "modules", None)
        parts = list(modules()) if callable(modules) else [model]
        own = [part for part in parts if not _is_torch(part)]
        forwards += [part for part in own or parts if callable(part)]
    return _with_called(forwards, depth=0)


def optimizer_functions(optimizer: object) -> tuple[Function, ...]:
    """`step` and `zero_grad` behind torch's profiling wrapper, and the update that step calls."""
    methods = [_method(optimizer, name) for name in ("step", "zero_grad")]
    return _with_called([method for method in methods if method is not None], depth=2)


def _walk(item: object, found: list[Function], seen: set[int], depth: int) -> None:
    """Gather what runs in a dataset or transform, then in what it holds."""
    if id(item) in seen or depth > _DEPTH or len(found) >= MOST_FUNCTIONS:
        return
    seen.add(id(item))
    if isinstance(item, (FunctionType, MethodType, functools.partial)):
        found.append(item)
        return
    names = ("__getitems__", "__getitem__", "__iter__") if depth == 0 or _is_dataset(item) else ()
    # torchvision's second generation runs `transform` from a `forward` that all of them share.
    for name in (*names, "forward", "__call__", "transform", "_transform"):
        method = _method(item, name)
        if method is not None and (name != "__call__" or not _is_torch_method(method)):
            found.append(method)
    for held in _held(item):
        _walk(held, found, seen, depth + 1)


def _held(item: object) -> Iterator[object]:
    """Callables and datasets among an object's attributes, also within its lists and tuples."""
    attributes = dict(getattr(item, "__dict__", {}))
    attributes.update(attributes.pop("_modules", None) or {})
    for name, value in attributes.items():
        if name.startswith("__"):
            continue
        few = isinstance(value, (list, tuple)) and len(value) <= MOST_FUNCTIONS
        for each in value if few else (value,):
            is_kept = callable(each) or _is_dataset(each)
            if is_kept and not inspect.isclass(each) and not inspect.isbuiltin(each):
                yield each


def _is_dataset(item: object) -> bool:
    """Whether it makes items in Python; sequences and tensors hold them."""
    if isinstance(item, (str, bytes, list, tuple, dict, ModuleType)) or inspect.isclass(item):
        return False
    if hasattr(item, "forward"):  # an indexable container of modules
        return False
    return any(_method(item, name) is not None for name in ("__getitem__", "__iter__"))


def _method(item: object, name: str) -> Function | None:
    """The Python method that this object has under a name, its own attribute first."""
    own = getattr(item, "__dict__", {}).get(name)
    if isinstance(own, (FunctionType, MethodType)):
        return own
    method = inspect.getattr_static(type(item), name, None)
    if isinstance(method, (staticmethod, classmethod)):
        method = method.__func__
    return method if isinstance(method, FunctionType) else None


def _is_torch(item: object) -> bool:
    return type(item).__module__.partition(".")[0] == "torch"


def _is_torch_method(method: Function) -> bool:
    return getattr(method, "__module__", "").partition(".")[0] == "torch"


def _with_called(roots: Iterable[Function], depth: int) -> tuple[Function, ...]:
    """The functions, each once, and those that they call by a name that can be resolved."""
    chosen: dict[object, Function] = {}
    level = list(roots)
    for remaining in range(depth, -1, -1):
        called: list[Function] = []
        for target in level:
            function = python_function(target)
            key: object = function.__code__ if function else _identity(target)
            if key in chosen or len(chosen) >= MOST_FUNCTIONS:
                continue
            chosen[key] = target
            if function is not None and remaining:
                called += _called_by(function)
        level = called
    return tuple(chosen.values())


def _identity(target: object) -> object:
    return type(target) if not inspect.isroutine(target) else target


def _called_by(function: FunctionType) -> list[Function]:
    """Python functions that a function names: global ones, and one attribute deep in modules.

    Names in its code are candidates whether called or not; one that never runs costs nothing.
    """
    names = _names(function.__code__)
    called: list[Function] = []
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType):
            called.append(value)
        elif isinstance(value, ModuleType):
            held = (getattr(value, attribute, None) for attribute in names)
            called += [each for each in held if isinstance(each, FunctionType)]
    owner = function.__globals__.get(function.__qualname__.partition(".")[0])
    if inspect.isclass(owner):
        methods = (inspect.getattr_static(owner, name, None) for name in names)
        called += [each for each in methods if isinstance(each, FunctionType)]
    return called


def _names(code: CodeType) -> tuple[str, ...]:
    # Comprehensions were code of their own before Python 3.12.
    nested = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return tuple(dict.fromkeys([*code.co_names, *(name for names in nested for name in names)]))
