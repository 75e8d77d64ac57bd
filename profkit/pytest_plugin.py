"""pytest: fixture, marker and options; what a test run measured, as a table and as files.

A run that measures nothing imports nothing beside this module and `terms`.
"""

import dataclasses
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import terms

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
    if _wants_files(config):
        _check_files(config)
    if not hasattr(config, "workerinput"):  # xdist's workers report to a process that gathers
        config.pluginmanager.register(_Gatherer(config), "profkit-ledger")


class _Gatherer:
    """Gathers what the tests measured, writes it and shows it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._entries: list[dict[str, Any]] = []
        self._not_timed = 0
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came with a report."""
        self._entries += getattr(report, "profkit", ())
        if report.skipped and _NOT_TIMED in str(report.longrepr):
            self._not_timed += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files that were asked for."""
        if not self._entries and not _wants_files(self._config):
            return
        from .errors import ProfkitError

        try:
            self._write()
        except ProfkitError as error:
            self._lines.append(f"error: {error}")
            session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def _write(self) -> None:
        from . import ledgers

        option, root = self._config.getoption, self._config.rootpath
        ledger = ledgers.ledger_of(self._entries)
        self._lines += ledgers.ledger_lines(ledger)
        file, save, compare = (option(f"--profkit-{name}") for name in ("json", "save", "compare"))
        if file is not None:
            ledgers.write_ledger(_json_path(self._config), ledger)
            self._lines.append(f"wrote {file}")
        if compare is not None:
            self._lines += ["", f"beside what was saved as {compare}:"]
            self._lines += ledgers.compare_lines(ledger, ledgers.saved_path(root, compare))
        if save is not None and ledger.measured:
            path = ledgers.saved_path(root, save)
            ledgers.write_ledger(path, dataclasses.replace(ledger, asserted=()))
            self._lines.append(f"saved as {save}: {path.relative_to(root)}")
        elif save is not None:
            self._lines.append(f"nothing was measured, so nothing was saved as {save}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show it."""
        if self._not_timed:
            self._lines.append(
                f"{self._not_timed} not timed: other workers ran beside them; run with -n 0"
            )
        if self._lines:
            terminalreporter.section("profkit")
            for line in self._lines:
                terminalreporter.write_line(line)


def _wants_files(config: pytest.Config) -> bool:
    names = ("json", "save", "compare")
    return any(config.getoption(f"--profkit-{name}") is not None for name in names)


def _json_path(config: pytest.Config) -> Path:
    """Where it was asked for, wherever the tests have gone since."""
    return config.invocation_params.dir / str(config.getoption("--profkit-json"))


def _check_files(config: pytest.Config) -> None:
    from .errors import ProfkitError
    from .ledgers import check_new, check_replaceable, saved_names, saved_path

    option, root = config.getoption, config.rootpath
    is_worker = hasattr(config, "workerinput")
    try:
        if option("--profkit-json") is not None and not is_worker:
            check_replaceable(_json_path(config))
        if option("--profkit-save") is not None and not is_worker:
            check_new(saved_path(root, option("--profkit-save")))
        name = option("--profkit-compare")
        if name is not None and not saved_path(root, name).is_file():
            names = ", ".join(saved_names(root)) or "none yet"
            raise pytest.UsageError(f"--profkit-compare={name}: nothing is saved as that: {names}")
    except ProfkitError as error:
        raise pytest.UsageError(str(error)) from error


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
