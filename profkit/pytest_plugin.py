"""pytest: the fixture `profkit_measure` and its options. Imports nothing until it is used."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .analyze.quantity import Measurement


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that give `profkit_measure` its defaults."""
    group = parser.getgroup("profkit", "profkit: stage shares and relative costs of training")
    group.addoption(
        "--profkit-steps",
        type=int,
        default=100,
        metavar="N",
        help="steps that profkit_measure times",
    )
    group.addoption(
        "--profkit-warmup",
        type=int,
        default=10,
        metavar="N",
        help="steps that profkit_measure does before",
    )
    group.addoption(
        "--profkit-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="when profkit_measure stops with fewer steps",
    )


@pytest.fixture
def profkit_measure(request: pytest.FixtureRequest) -> "Callable[..., Measurement]":
    """`profkit.measure` with the options of this test run as its defaults."""
    from .measurement import measure

    option = request.config.getoption

    def measure_with_options(step: Any, loader: Any, **given: Any) -> "Measurement":
        defaults = {
            "steps": option("--profkit-steps"),
            "warmup": option("--profkit-warmup"),
            "timeout_s": option("--profkit-timeout"),
            "name": request.node.name,
        }
        return measure(step, loader, **{**defaults, **given})

    return measure_with_options
