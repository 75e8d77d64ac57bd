"""Ledgers of test runs: measurements and assertions as plain facts, and what was saved before."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .analyze.breakdown import active_rows, blocks
from .analyze.quantity import Measurement
from .analyze.since_saved import changes_since, environment_changes
from .analyze.statistics import widen_between_processes
from .analyze.turns import block_means
from .probe.environment import read_environment
from .render.ledger import change_lines
from .schema.ledger import LEDGER_SCHEMA, Asserted, Blocks, Ledger, Measured
from .schema.stage import STAGES
from .store.saved import read_ledger


def entries_of(test: str, noted: Sequence[object]) -> list[dict[str, Any]]:
    """What one test measured and asserted, as it stands now, fit to be sent between processes.

    Args:
        test: its id.
        noted: `Measurement`s and `Asserted`s in their order.
    """
    names: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for one in noted:
        if isinstance(one, Measurement):
            names[one.name] += 1
            times = names[one.name]
            name = one.name if times == 1 else f"{one.name} {times}"
            found.append({"measured": msgspec.to_builtins(_measured(one, test, name))})
        elif isinstance(one, Asserted):
            found.append({"asserted": msgspec.to_builtins(dataclasses.replace(one, test=test))})
    return found


def ledger_of(entries: Sequence[dict[str, Any]]) -> Ledger:
    """The ledger of a test run from what its tests gave, on this machine."""
    measured = [msgspec.convert(one["measured"], Measured) for one in entries if "measured" in one]
    asserted = [msgspec.convert(one["asserted"], Asserted) for one in entries if "asserted" in one]
    environment = read_environment()
    return Ledger(LEDGER_SCHEMA, environment, tuple(measured), tuple(asserted))


def compare_lines(now: Ledger, path: Path) -> list[str]:
    """A ledger beside a saved one, in lines for a terminal.

    Raises:
        RunError: what was saved cannot be read.
    """
    saved = read_ledger(path)
    changes, unknown = changes_since(now.measured, saved)
    differences = environment_changes(now.environment, saved.environment)
    return change_lines(changes, unknown, differences, saved.environment.commit)


def _measured(one: Measurement, test: str, name: str) -> Measured:
    breakdown, table = one.breakdown, one.table
    cut = blocks(table, active_rows(table, drained=True))
    means = block_means(table, cut)
    assert breakdown.mean_step_ns is not None  # there is no measurement without a step
    columns = {
        stage: None if breakdown.stages[stage] is None else tuple(means[:, at].tolist())
        for at, stage in enumerate(STAGES)
    }
    shares = {
        stage.value: None if finding is None else finding.share
        for stage, finding in breakdown.stages.items()
    }
    return Measured(
        test=test,
        name=name,
        steps=one.steps,
        warmup=breakdown.warmup,
        step_ns=widen_between_processes(breakdown.mean_step_ns),
        shares=shares,
        blocks=Blocks(
            steps=tuple(rows.size for rows in cut),
            step_ns=tuple(means[:, -1].tolist()),
            stages_ns={stage.value: column for stage, column in columns.items()},
        ),
    )
