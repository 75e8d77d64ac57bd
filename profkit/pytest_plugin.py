"""pytest: fixture, marker and options, and the terms that they set for each test.

A run that measures nothing imports nothing beside this module, `pytest_ledger` and `terms`.
"""

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from . import terms
from .pytest_ledger import Gatherer, check_files, wants_files

if TYPE_CHECKING:
    from .analyze.quantity import Measurement

_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("steps", {"type": int, "default": terms.STEPS, "metavar": "N", "help": "steps timed"}),
    ("warmup", {"type": int, "default": terms.WARMUP, "metavar": "N", "help": "steps before them"}),
    (
        "timeout",
        {
            "type": float,
            "default": terms.TIMEOUT_S,
            "metavar": "SECONDS",
            "help": "the longest that one measurement, or one assertion, goes on measuring",
        },
    ),
    (
        "rounds",
        {
            "type": int,
            "default": terms.ROUNDS,
            "metavar": "N",
            "help": "how often an assertion looks at the data, which double before each look",
        },
    ),
    (
        "inconclusive",
        {
            "choices": ("warn", "fail", "skip"),
            "default": "warn",
            "help": "what an assertion does that the data cannot decide",
        },
    ),
    ("json", {"metavar": "FILE", "help": "write all that was measured and asserted"}),
    ("save", {"metavar": "NAME", "help": "keep what was measured in .profkit/NAME.json"}),
    ("compare", {"metavar": "NAME", "help": "show it beside what was kept under that name"}),
)
_MARKER = (
    "profkit(rounds=None, timeout_s=None): how often profkit's assertions of this test look at the "
    "data, and how long they and its measurements go on at most"
)
_NOT_TIMED = "profkit does not time beside other workers"
_noted = pytest.StashKey[list[object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("profkit", "profkit: stage shares and relative costs of training")
    for name, settings in _OPTIONS:
        group.addoption(f"--profkit-{name}", **settings)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse options that could only fail at the end."""
    config.addinivalue_line("markers", _MARKER)
    option = config.getoption
    for name, least in (("steps", 1), ("warmup", 0), ("rounds", 1)):
        given = option(f"--profkit-{name}")
        if not terms.is_count(given, least):
            raise pytest.UsageError(f"--profkit-{name}={given}: give {least} or more")
    if not terms.is_positive(option("--profkit-timeout")):
        raise pytest.UsageError(
            f"--profkit-timeout={option('--profkit-timeout')}: give a positive number of seconds"
        )
    if wants_files(config):
        check_files(config)
    if not hasattr(config, "workerinput"):  # xdist's workers report to a process that gathers
        config.pluginmanager.register(Gatherer(config, _NOT_TIMED), "profkit-ledger")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """What is measured from here on is this test's, on its terms."""
    option = item.config.getoption
    noted: list[object] = []
    item.stash[_noted] = noted
    marker = item.get_closest_marker("profkit")
    given = {} if marker is None or _fault(marker) is not None else marker.kwargs
    on_inconclusive = {"warn": _warn, "fail": _fail, "skip": _skip}
    choice = option("--profkit-inconclusive")
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "")
    count = int(workers) if workers.isdigit() else 1
    now = terms.Terms(
        steps=option("--profkit-steps"),
        warmup=option("--profkit-warmup"),
        rounds=given.get("rounds") or option("--profkit-rounds"),
        timeout_s=given.get("timeout_s") or option("--profkit-timeout"),
        refuse=lambda: _refuse(count, choice),
        inconclusive=on_inconclusive[choice],
        note=noted.append,
    )
    with terms.under(now):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker that says nothing sensible; do not set up what will not be timed."""
    marker = item.get_closest_marker("profkit")
    if marker is None:
        return
    fault = _fault(marker)
    if fault is not None:
        pytest.fail(
            f"{fault}: use @pytest.mark.profkit(rounds=3, timeout_s=60), a whole number from 1 on "
            "and a positive number of seconds, or one of them",
            pytrace=False,
        )
    terms.current().refuse()


def _fault(marker: pytest.Mark) -> str | None:
    """What is wrong with a marker, in words; None if nothing is."""
    if marker.args:
        return f"@pytest.mark.profkit takes no positional argument, got {marker.args[0]!r}"
    for name, value in marker.kwargs.items():
        if name not in ("rounds", "timeout_s"):
            return f"@pytest.mark.profkit has no {name}="
        allows = terms.is_count if name == "rounds" else terms.is_positive
        if value is not None and not allows(value):
            return f"@pytest.mark.profkit({name}={value!r}) cannot be"
    return None


def _refuse(workers: int, choice: str) -> None:
    __tracebackhide__ = True
    if workers > 1:
        reason = f"{_NOT_TIMED} ({workers} of xdist here): run these tests with -n 0"
        if choice == "fail":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _warn(message: str) -> None:
    import warnings

    from .errors import InconclusiveWarning

    with warnings.catch_warnings():
        # `error` for all warnings means other ones: this outcome has an option of its own. A
        # filter that names it does mean it.
        if not any(one[2] is InconclusiveWarning for one in warnings.filters):
            warnings.simplefilter("always", InconclusiveWarning)
        warnings.warn(message, InconclusiveWarning, stacklevel=4)


def _fail(message: str) -> None:
    __tracebackhide__ = True
    raise AssertionError(message)


def _skip(message: str) -> None:
    __tracebackhide__ = True
    pytest.skip(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Let what was measured travel with the report, also out of xdist's workers."""
    report = yield
    noted = item.stash.get(_noted, [])
    if noted and call.when == "teardown":
        from .ledgers import entries_of

        report.profkit = entries_of(item.nodeid, noted)
        noted.clear()
    return report


@pytest.fixture
def profkit_measure(request: pytest.FixtureRequest) -> "Callable[..., Measurement]":
    """`profkit.measure`, on the terms of this test: its marker's, else the options'."""
    from .measurement import measure

    terms.current().refuse()
    return measure
