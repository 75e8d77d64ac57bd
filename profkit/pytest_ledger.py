"""pytest: what the tests of a run measured, as a table and as files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .schema.ledger import Ledger

_BROKEN_OFF = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)


class Gatherer:
    """Gathers what the tests measured, writes it and shows it.

    Args:
        config: whose options say what to write.
        not_timed: in the reason of a test that was skipped beside other workers.
    """

    def __init__(self, config: pytest.Config, not_timed: str) -> None:
        self._config = config
        self._reason = not_timed
        self._entries: list[dict[str, Any]] = []
        self._not_timed = 0
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came with a report."""
        self._entries += getattr(report, "profkit", ())
        if report.skipped and self._reason in str(report.longrepr):
            self._not_timed += 1

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files that were asked for; what fails of it stands in no other's way."""
        if not self._entries and not wants_files(self._config):
            return
        from .errors import ProfkitError
        from .ledgers import ledger_of
        from .render.ledger import ledger_lines

        ledger = ledger_of(self._entries)
        self._lines += ledger_lines(ledger)
        asked: tuple[tuple[str, Callable[[str, Ledger], None]], ...] = (
            ("json", self._write),
            ("save", self._do_not_save if exitstatus in _BROKEN_OFF else self._save),
            ("compare", self._compare),
        )
        for name, act in asked:
            given = self._config.getoption(f"--profkit-{name}")
            if given is None:
                continue
            try:
                act(given, ledger)
            except ProfkitError as error:
                self._lines.append(f"error: {error}")
                session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def _write(self, file: str, ledger: "Ledger") -> None:
        from .store.saved import write_ledger

        write_ledger(_json_path(self._config), ledger)
        self._lines.append(f"wrote {file}")

    def _save(self, name: str, ledger: "Ledger") -> None:
        from .store.saved import saved_path, write_ledger

        if not ledger.measured:
            self._lines.append(f"nothing was measured, so nothing was saved as {name}")
            return
        path = saved_path(self._config.rootpath, name)
        write_ledger(path, dataclasses.replace(ledger, asserted=()))
        self._lines.append(f"saved as {name}: {path.relative_to(self._config.rootpath)}")

    def _do_not_save(self, name: str, ledger: "Ledger") -> None:
        self._lines.append(f"the run was broken off, so nothing was saved as {name}")

    def _compare(self, name: str, ledger: "Ledger") -> None:
        from .ledgers import compare_lines
        from .store.saved import saved_path

        self._lines += ["", f"beside what was saved as {name}:"]
        self._lines += compare_lines(ledger, saved_path(self._config.rootpath, name))

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


def wants_files(config: pytest.Config) -> bool:
    """Whether an option names one."""
    names = ("json", "save", "compare")
    return any(config.getoption(f"--profkit-{name}") is not None for name in names)


def check_files(config: pytest.Config) -> None:
    """Refuse files that could only fail at the end.

    Raises:
        pytest.UsageError: one cannot be written, or there is none to compare with.
    """
    from .errors import ProfkitError
    from .store.saved import check_new, check_replaceable, saved_names, saved_path

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


def _json_path(config: pytest.Config) -> Path:
    """Where it was asked for, wherever the tests have gone since."""
    return config.invocation_params.dir / str(config.getoption("--profkit-json"))
