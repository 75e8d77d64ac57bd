"""Which callables make a sample: a dataset's transforms, and what decodes.

Told by shape alone, as in `probe.line_targets`: whatever callable a dataset holds is a part, under
the name that its user gave it. Nothing is imported for it, and nothing is called.
"""

import functools
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ..schema.loader import PartKind

MOST_PARTS = 48
"""Past these, a table says no more; and each timed call costs half a microsecond."""
MOST_HELD = 256
"""Attributes or list elements of one object that are looked at."""
_MOST_OBJECTS = 1_000
_DEPTH = 6
_LONGEST_NAME = 80
_PLUMBING = frozenset({"Compose", "Lambda", "StandardTransform", "Sequential", "ModuleList"})
"""Of torch and torchvision: they only call what they hold, which has a name of its own."""
_DECODERS = (
    ("PIL.Image", "open"),
    ("PIL.ImageFile", "ImageFile.load"),
    ("cv2", "imread"),
    ("cv2", "imdecode"),
    ("torchvision.io.image", "read_file"),
    ("torchvision.io.image", "decode_image"),
    ("torchvision.io.image", "decode_jpeg"),
    ("torchvision.io.image", "decode_png"),
    ("torchvision.io.image", "read_image"),
    ("torchaudio", "load"),
    ("soundfile", "read"),
    ("imageio.v3", "imread"),
    ("skimage.io", "imread"),
)
"""What turns files into arrays, by module. PIL reads when the image is first needed: `load`."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a function is referred to: `owner[key]`.

    Attributes:
        owner: a dictionary, a list, or the namespace of a class or module.
        key: of it.
    """

    owner: Any
    key: Any


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Something that is called to make a sample.

    Attributes:
        kind: `DECODE` or `TRANSFORM`.
        name: for reports.
        target: the callable.
        places: where to put another in its place, for functions; none for objects, whose class
            tells of their calls.
    """

    kind: PartKind
    name: str
    target: Any
    places: tuple[Place, ...]


def find_parts(dataset: object) -> tuple[Part, ...]:
    """The parts of a dataset's samples, in the order in which it holds them; each once.

    Args:
        dataset: any; wrapped ones (`Subset`, `ConcatDataset`) are looked into.
    """
    search = _Search()
    search.look_into(dataset, "", 0)
    return (*search.transforms(), *_decoders(search.code))[:MOST_PARTS]


class _Search:
    def __init__(self) -> None:
        self.code: list[FunctionType] = []
        self._seen: set[int] = set()
        self._found: dict[int, tuple[str, Any, list[Place]]] = {}

    def transforms(self) -> tuple[Part, ...]:
        """What was found, under names that differ."""
        count: dict[str, int] = {}
        parts = []
        for name, target, places in self._found.values():
            count[name] = count.get(name, 0) + 1
            shown = name if count[name] == 1 else f"{name} ({count[name]})"
            parts.append(Part(PartKind.TRANSFORM, shown, target, tuple(places)))
        return tuple(parts)

    def look_into(self, item: object, path: str, depth: int) -> None:
        """Go through what an object holds; itself is no part."""
        if id(item) in self._seen or depth > _DEPTH or len(self._seen) >= _MOST_OBJECTS:
            return
        self._seen.add(id(item))
        self.code += [
            method
            for name in ("__getitem__", "__getitems__", "__iter__", "__call__", "forward")
            if isinstance(method := inspect.getattr_static(type(item), name, None), FunctionType)
        ]
        for place, held in _held(item):
            if len(self._found) >= MOST_PARTS:
                return
            if _is_dataset(held):
                self.look_into(held, path, depth + 1)
            elif callable(held) and not inspect.isclass(held):
                self._meet(place, held, path, depth)

    def _meet(self, place: Place, held: Any, path: str, depth: int) -> None:
        known = self._found.get(id(held))
        if known is not None:
            if _is_function(held):
                known[2].append(place)
            return
        if _is_function(held):
            self._found[id(held)] = (f"{path}{_name(held)}", held, [place])
        elif _is_plumbing(held):
            self.look_into(held, path, depth + 1)
        elif not type(held).__module__.startswith("torch.nn."):  # a model's layers are its own
            name = f"{path}{_name(held)}"
            self._found[id(held)] = (name, held, [])
            self.look_into(held, f"{name} > ", depth + 1)


def _held(item: object) -> Iterator[tuple[Place, Any]]:
    """What an object refers to by its attributes, and by lists, tuples and dictionaries there."""
    attributes = getattr(item, "__dict__", None)
    if not isinstance(attributes, dict):
        return
    modules = attributes.get("_modules")
    for owner in (attributes, modules if isinstance(modules, dict) else {}):
        for name, value in list(owner.items())[:MOST_HELD]:
            if isinstance(name, str) and name.startswith("_") and owner is attributes:
                continue  # a module's hooks, and what else is not meant to be seen
            yield Place(owner, name), value
            if isinstance(value, (list, dict)):
                inner = enumerate(value) if isinstance(value, list) else value.items()
                if len(value) <= MOST_HELD:
                    for key, each in list(inner):
                        yield Place(value, key), each
            elif isinstance(value, tuple) and len(value) <= MOST_HELD:
                for each in value:
                    if not _is_function(each):  # in a tuple nothing can take its place
                        yield Place(value, None), each


def _is_dataset(item: object) -> bool:
    if isinstance(item, (str, bytes, list, tuple, dict)) or inspect.isclass(item):
        return False
    if hasattr(item, "forward") or callable(item):
        return False
    of = type(item)
    return isinstance(
        inspect.getattr_static(of, "__getitem__", inspect.getattr_static(of, "__iter__", None)),
        FunctionType,
    )


def _is_function(item: object) -> bool:
    kinds = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)
    return isinstance(item, kinds)


def _is_plumbing(item: object) -> bool:
    of = type(item)
    library = of.__module__.partition(".")[0]
    return of.__name__ in _PLUMBING and library in ("torch", "torchvision")


def _name(item: Any) -> str:
    while isinstance(item, functools.partial):
        item = item.func
    found = getattr(item, "__qualname__", None) if _is_function(item) else type(item).__name__
    name = str(found or type(item).__name__).replace("<locals>.", "")
    # `outer.inner` of a closure says more than is asked; a method keeps its class.
    if isinstance(item, FunctionType):
        name = name.rpartition(".")[2]
    return name[:_LONGEST_NAME]


def _decoders(code: list[FunctionType]) -> Iterator[Part]:
    """Decoding functions of the libraries that are loaded, also where code imported them from."""
    for module_name, path in _DECODERS:
        owner: Any = sys.modules.get(module_name)
        *classes, name = path.split(".")
        for each in classes:
            owner = getattr(owner, each, None)
        target = getattr(owner, name, None)
        if not callable(target):
            continue
        places = [Place(owner, name)]
        for function in code:
            for key in function.__code__.co_names:
                if function.__globals__.get(key) is target:
                    places.append(Place(function.__globals__, key))
        shown = f"{module_name.partition('.')[0]} {path.rpartition('.')[2]}"
        yield Part(PartKind.DECODE, shown, target, tuple(places))
