"""Says which part of a PyTorch training step costs the time, why, and what a fix would give.

The public names; importing this loads neither torch nor anything else that is slow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analyze.quantity import Measurement, Quantity
    from .api import (
        compare,
        describe_machine,
        observe,
        record,
        render_comparison,
        render_predictions,
        render_report,
        report,
        tune,
        what_if,
    )
    from .assertions import assert_dominant, assert_ratio, assert_share
    from .errors import InconclusiveWarning, ProfkitError
    from .measurement import measure
    from .recorder import Recorder
    from .schema.prediction import Change, Question
    from .schema.stage import Stage
    from .watching import watch

__version__ = "0.1.0"

_HOMES = {
    "Change": "schema.prediction",
    "InconclusiveWarning": "errors",
    "Measurement": "analyze.quantity",
    "ProfkitError": "errors",
    "Quantity": "analyze.quantity",
    "Question": "schema.prediction",
    "Recorder": "recorder",
    "Stage": "schema.stage",
    "compare": "api",
    "assert_dominant": "assertions",
    "assert_ratio": "assertions",
    "assert_share": "assertions",
    "describe_machine": "api",
    "measure": "measurement",
    "observe": "api",
    "record": "api",
    "render_comparison": "api",
    "render_predictions": "api",
    "render_report": "api",
    "report": "api",
    "watch": "watching",
    "tune": "api",
    "what_if": "api",
}

__all__ = [
    "Change",
    "InconclusiveWarning",
    "Measurement",
    "ProfkitError",
    "Quantity",
    "Question",
    "Recorder",
    "Stage",
    "assert_dominant",
    "assert_ratio",
    "assert_share",
    "compare",
    "describe_machine",
    "measure",
    "observe",
    "record",
    "render_comparison",
    "render_predictions",
    "render_report",
    "report",
    "tune",
    "watch",
    "what_if",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'profkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"profkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
