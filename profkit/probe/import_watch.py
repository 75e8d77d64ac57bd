"""Acts right after a module has been imported: how hooks get into torch without importing it."""

import importlib.abc
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..interruption import pass_on

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"

Act = Callable[[ModuleType], object]
Failed = Callable[[Exception], None]


def when_imported(name: str, act: Act, failed: Failed | None = None) -> Callable[[], None]:
    """Call `act(module)` as soon as a module has been imported; at once if it already is.

    `act` runs in the importing thread, before the `import` statement goes on. An import that
    fails leaves the watch in place for the next attempt. Where `act` itself imports the module,
    it gets the finished one.

    Args:
        name: absolute name; for a submodule, its parent does not have it as an attribute yet.
        act: called once, with what stands in `sys.modules`.
        failed: told what `act` raised, or why the module cannot be watched: the import goes on
            in any case. None writes one line on stderr.

    Returns:
        Stops waiting; does nothing afterwards.
    """
    watch = _Watch(name, act, failed)
    module = sys.modules.get(name)
    if module is None:
        _FINDER.add(watch)
    elif getattr(getattr(module, "__spec__", None), "_initializing", False):
        watch.fail(ImportError(f"{name} is just being imported: too late to see the end of it"))
    else:
        watch.tell(module)
    return lambda: _FINDER.discard(watch)


def find_spec(
    name: str, path: Sequence[str] | None, target: ModuleType | None, finders: Iterable[Any]
) -> ModuleSpec | None:
    """What the first of some finders says that knows a module; None where none does."""
    for finder in finders:
        ask = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if ask is None else ask(name, path, target)
        if spec is not None:
            return spec
    return None


class _Watch:
    def __init__(self, name: str, act: Act, failed: Failed | None) -> None:
        self.name = name
        self._act = act
        self._failed = failed

    def tell(self, module: ModuleType) -> None:
        try:
            self._act(module)
        except Exception as error:
            pass_on(error)
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if self._failed is not None:
            with suppress(Exception):
                self._failed(error)
        elif sys.stderr is not None:
            with suppress(Exception):
                words = " ".join(f"{type(error).__name__}: {error}".split())
                sys.stderr.write(f"profkit: could not watch {self.name}: {words}\n")


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the finders behind it find a watched module, and wraps the loader that they give.

    It stands in `sys.meta_path` for as long as there is something to wait for.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[_Watch]] = {}
        self._lock = threading.Lock()
        self._asking = threading.local()

    def add(self, watch: _Watch) -> None:
        with self._lock:
            self._waiting.setdefault(watch.name, []).append(watch)
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def discard(self, watch: _Watch) -> None:
        with self._lock:
            waiting = self._waiting.get(watch.name, [])
            if watch in waiting:
                waiting.remove(watch)
            if not waiting:
                self._waiting.pop(watch.name, None)
            self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if not self._waiting:
            # A new list: another thread may be going through the old one.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Another finder that asks all finders, as this one does, must not make it ask again.
        if name not in self._waiting or name in vars(self._asking):
            return None
        vars(self._asking)[name] = True
        try:
            spec = find_spec(name, path, target, [f for f in sys.meta_path if f is not self])
        finally:
            del vars(self._asking)[name]
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[arg-type, assignment]
        return spec

    def imported(self, name: str, module: ModuleType) -> None:
        with self._lock:
            watches = self._waiting.pop(name, [])
            self._leave_if_idle()
        for watch in watches:
            watch.tell(sys.modules.get(name, module))


class _Loader:
    """A module's own loader, except that the finder hears when the module is complete.

    All other attributes are the loader's own (`get_source`, `is_package`, `path`, ...), its class
    too: many programs look at a spec without ever importing the module.
    """

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._loader)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the loader makes; None for an ordinary module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its own loader in place, then tell who waited for it."""
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._finder.imported(module.__name__ if spec is None else spec.name, module)

    # Python leaves frames of the import system out of the traceback of a failing `import`, and
    # so it should this one: the traceback stays what it is without profkit.
    exec_module.__code__ = exec_module.__code__.replace(co_filename=_IMPORT_SYSTEM)


_FINDER = _Finder()
