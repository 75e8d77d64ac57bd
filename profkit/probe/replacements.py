"""Wrappers in place of functions of torch, put there and taken away again."""

from collections.abc import Callable, Iterable
from typing import Any

Function = Callable[..., Any]

_MISSING = object()


class Replacements:
    """What was put in place of what."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, wrap: Callable[[Function], Any]) -> None:
        """Put `wrap(original)` in place of an attribute; nothing where there is none."""
        original = getattr(owner, name, None)
        if original is None:
            return
        self.put(owner, name, wrap(original))

    def put(self, owner: Any, name: str, wrapper: Any) -> None:
        """Put something in place of an attribute, whatever is there."""
        kept = owner.__dict__.get(name, _MISSING)
        self._undo.append((owner, name, wrapper, kept))
        setattr(owner, name, wrapper)

    def follow(self, base: type, name: str, wrap: Callable[[Function], Any]) -> None:
        """Replace a method in each class below `base` that has its own, in those to come too."""
        for made in subclasses(base):
            if name in made.__dict__:
                self.replace(made, name, wrap)

        def init_subclass(made: Any, /, **settings: Any) -> None:
            if own is _MISSING:
                super(base, made).__init_subclass__(**settings)  # type: ignore[arg-type]
            else:
                own.__get__(None, made)(**settings)
            if name in made.__dict__:
                self.replace(made, name, wrap)

        own: Any = base.__dict__.get("__init_subclass__", _MISSING)
        self.replace(base, "__init_subclass__", lambda _: classmethod(init_subclass))

    def put_back(self) -> None:
        """Take all wrappers away, the last one first."""
        while self._undo:
            owner, name, wrapper, original = self._undo.pop()
            if owner.__dict__.get(name) is not wrapper:
                continue  # somebody has put another wrapper around it since, which stays
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def subclasses(base: type) -> Iterable[type]:
    """All classes below one, each once, from the base on."""
    found: dict[type, None] = {}
    made: type
    for made in base.__subclasses__():
        found[made] = None
        found.update(dict.fromkeys(subclasses(made)))
    return found
