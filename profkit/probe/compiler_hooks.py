"""Hooks on torch.compile, so that it compiles what it would compile without any hooks."""

import functools
import inspect
import sys
from typing import Any

from torch import nn

from .hooks import Hooks
from .import_watch import when_imported
from .replacements import Function

_RULES = "torch._dynamo.trace_rules"
_KEEPS_CALL = ("torch._dynamo.utils", "torch._dynamo.variables.nn_module")


def hook_compiler(hooks: Hooks) -> None:
    """The compiler's rules of what to trace, as soon as there is one."""

    def hide(rules: Any) -> None:
        if hooks.installed:
            _hide(hooks, rules)

    def fail(error: Exception) -> None:
        hooks.gaps.append(f"torch.compile may trace functions of profkit: {error!r}")

    hooks.on_uninstall(when_imported(_RULES, hide, fail))


def _hide(hooks: Hooks, rules: Any) -> None:
    # Neither from outside, nor where it goes on with what is called after a graph break.
    if not rules.check_file(__file__).skipped:
        rules.add(__package__.partition(".")[0])
    # It goes the short way through a module only where it knows `nn.Module.__call__`.
    _tell_call()
    hooks.on_uninstall(_tell_call)
    # It knows methods of tensors by their type, which a wrapper does not have.
    hooks.replace(rules, "get_tensor_method", lambda f: _with_methods(f, hooks.tensor_methods))


def _tell_call() -> None:
    for name in _KEEPS_CALL:
        module: Any = sys.modules.get(name)
        if hasattr(module, "unpatched_nn_module_call"):
            module.unpatched_nn_module_call = nn.Module.__call__


def _with_methods(function: Function, methods: set[Function]) -> Any:
    # Cached as the original is, whose cache the compiler clears now and then.
    return functools.cache(lambda: inspect.unwrap(function)() | methods)
