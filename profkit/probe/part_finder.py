"""Which callables make a sample: a dataset's transforms, and what decodes.

Told by shape alone, as in `probe.line_targets`: whatever callable a dataset holds is a part, under
the name that its user gave it. Nothing is imported for it, and nothing is called.
"""

import functools
import inspect
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import filterfalse
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    MemberDescriptorType,
    MethodType,
)
from typing import Any

from ..schema.loader import PartKind
from .stand_in import is_stand_in

MOST_PARTS = 48
"""Past these, a table says no more; and each timed call costs half a microsecond."""
MOST_HELD = 256
"""Attributes or list elements of one object that are looked at."""
_MOST_OBJECTS = 1_000
_MOST_INNER = 256
"""Lists and dictionaries in others: mostly data."""
_DEPTH = 6
_LONGEST_NAME = 80
_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)
_NO_PARTS = (type, weakref.ReferenceType, GenericAlias)
"""Callable, but they only tell what is meant."""
_IMMUTABLE = 1 << 8
"""`Py_TPFLAGS_IMMUTABLETYPE`: nobody can be told of the calls of such a class."""
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
        owner: a dictionary, a list, a class or module, or an object with slots.
        key: of it; the descriptor of a slot.
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
        self._inner: set[int] = set()
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
        for place, held in _attributes(item):
            self._consider(place, held, path, depth)

    def _consider(self, place: Place | None, held: Any, path: str, depth: int) -> None:
        if len(self._found) >= MOST_PARTS or is_stand_in(held):
            return
        if _is_container(held):
            for inner, each in _elements(held):
                if not _is_container(each):
                    self._consider(inner, each, path, depth)
                elif id(each) not in self._inner and len(self._inner) < _MOST_INNER:
                    self._inner.add(id(each))
                    self._consider(inner, each, path, depth)
        elif _is_dataset(held):
            self.look_into(held, path, depth + 1)
        elif callable(held) and not issubclass(type(held), _NO_PARTS):
            self._meet(place, held, path, depth)

    def _meet(self, place: Place | None, held: Any, path: str, depth: int) -> None:
        if _is_function(held):
            if place is not None:  # else nothing can take its place
                found = self._found.setdefault(id(held), (f"{path}{_name(held)}", held, []))
                found[2].append(place)
        elif id(held) in self._found:
            return
        elif _is_plumbing(held):
            self.look_into(held, path, depth + 1)
        elif not type(held).__module__.startswith("torch.nn."):  # a model's layers are its own
            name = f"{path}{_name(held)}"
            self._found[id(held)] = (name, held, [])
            self.look_into(held, f"{name} > ", depth + 1)


def _attributes(item: object) -> Iterator[tuple[Place, Any]]:
    """What an object refers to: itself, by slots, and by its class; no code of its own runs."""
    try:
        attributes = object.__getattribute__(item, "__dict__")
    except AttributeError:
        attributes = None
    is_module = _is_module(item)
    hidden = "_" if is_module else "__"
    if isinstance(attributes, dict):
        for name, value in list(attributes.items())[:MOST_HELD]:
            # What a module hides are its hooks; but for the modules in it.
            if not (is_module and str(name).startswith("_")):
                yield Place(attributes, name), value
        if is_module and isinstance(modules := attributes.get("_modules"), dict):
            for name, value in list(modules.items())[:MOST_HELD]:
                yield Place(modules, name), value
    for kind in filterfalse(_is_librarys, type(item).__mro__):
        for name, value in list(vars(kind).items())[:MOST_HELD]:
            if type(value) is MemberDescriptorType and "__slots__" in vars(kind):
                try:
                    yield Place(item, value), value.__get__(item)
                except AttributeError:  # nothing is in it
                    continue
            # What has `__get__` becomes a method or the like.
            elif not (name.startswith(hidden) or hasattr(type(value), "__get__")):
                yield Place(kind, name), value


def _is_container(item: object) -> bool:
    return issubclass(type(item), (list, tuple, dict))


def _elements(container: Any) -> Iterator[tuple[Place | None, Any]]:
    """What a list, tuple or dictionary holds, if it is not too much."""
    if issubclass(type(container), dict):
        if dict.__len__(container) <= MOST_HELD:
            for key, value in list(dict.items(container)):
                yield Place(container, key), value
    elif issubclass(type(container), list):
        if list.__len__(container) <= MOST_HELD:
            for i, value in enumerate(list.__iter__(container)):
                yield Place(container, i), value
    elif tuple.__len__(container) <= MOST_HELD:
        for value in tuple.__iter__(container):
            yield None, value


def _is_librarys(kind: type) -> bool:
    return str(kind.__module__).partition(".")[0] in ("builtins", "torch", "typing")


def _is_module(item: object) -> bool:
    return any(
        kind.__name__ == "Module" and kind.__module__ == "torch.nn.modules.module"
        for kind in type(item).__mro__
    )


def _is_dataset(item: object) -> bool:
    of = type(item)
    if issubclass(of, (str, bytes, type)) or callable(item):
        return False
    if inspect.getattr_static(of, "forward", None) is not None:
        return False
    return isinstance(
        inspect.getattr_static(of, "__getitem__", inspect.getattr_static(of, "__iter__", None)),
        FunctionType,
    )


def _is_function(item: object) -> bool:
    of = type(item)
    if issubclass(of, _FUNCTIONS):
        return True
    return bool(of.__flags__ & _IMMUTABLE)


def _is_plumbing(item: object) -> bool:
    of = type(item)
    library = of.__module__.partition(".")[0]
    return of.__name__ in _PLUMBING and library in ("torch", "torchvision")


def _name(item: Any) -> str:
    while issubclass(type(item), functools.partial):
        item = item.func
    found = None
    if _is_function(item):
        found = getattr(item, "__qualname__", None) or getattr(item, "__name__", None)
    name = str(found or type(item).__name__).replace("<locals>.", "")
    # `outer.inner` of a closure says more than is asked; a method keeps its class.
    if type(item) is FunctionType:
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
        if not callable(target) or is_stand_in(target):
            continue
        places = [Place(owner, name)]
        for function in code:
            for key in function.__code__.co_names:
                if function.__globals__.get(key) is target:
                    places.append(Place(function.__globals__, key))
        shown = f"{module_name.partition('.')[0]} {path.rpartition('.')[2]}"
        yield Part(PartKind.DECODE, shown, target, tuple(places))
