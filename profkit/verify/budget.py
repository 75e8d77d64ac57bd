"""Reads a budget: the file in which a project states what its training step may cost."""

import math
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError
from ..schema.budget import Budget
from ..schema.stage import STAGES, Stage
from .amounts import share_of_text

SHARE, RATIO = "share", "ratio"
STEP, THROUGHPUT = "step", "throughput"
_STAGES = ", ".join(stage.value for stage in STAGES)
_LARGEST_BYTES = 1 << 20


def read_budget(path: Path) -> Budget:
    """The limits that a TOML file states.

    Its sections are `[share]` (a stage, and which part of the step it may hold: `"20%"` or 0.2)
    and `[ratio]` (`step`, `throughput` or a stage, and how many times the base's it may be: 1.05).

    Raises:
        InputError: it cannot be read, is no TOML, or states something else or nothing.
    """
    sections = _sections(path)
    shares: dict[Stage, float] = {}
    ratios: dict[str, float] = {}
    for name, section in sections.items():
        if name not in (SHARE, RATIO):
            raise InputError(f"{path}: unknown section {name!r}: use [{SHARE}] and [{RATIO}]")
        if not isinstance(section, dict):
            raise InputError(f"{path}: {name} = {section!r} is no section: write [{name}]")
        for key, value in section.items():
            where = f"{path}: [{name}] {key} = {value!r}"
            if name == SHARE:
                shares[_stage(key, where, _STAGES)] = _share(value, where)
            else:
                if key not in (STEP, THROUGHPUT):
                    _stage(key, where, f"{STEP}, {THROUGHPUT}, {_STAGES}")
                ratios[key] = _ratio(value, where)
    budget = Budget(
        shares=shares,
        step=ratios.pop(STEP, None),
        throughput=ratios.pop(THROUGHPUT, None),
        stages={Stage(key): limit for key, limit in ratios.items()},
    )
    if budget.is_empty:
        raise InputError(f"{path} states no limit: add one, such as [share] and dataloader = '20%'")
    return budget


def _sections(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        words = error.strerror or error
        raise InputError(f"cannot read the budget {path}: {words}; give a TOML file") from None
    if len(text) > _LARGEST_BYTES:
        raise InputError(f"{path} is no budget: it is larger than {_LARGEST_BYTES} bytes")
    try:
        return msgspec.toml.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {error}; write it as the README shows") from None


def _stage(key: str, where: str, known: str) -> Stage:
    try:
        return Stage(key)
    except ValueError:
        raise InputError(f"{where}: unknown stage {key!r}: use one of {known}") from None


def _share(value: Any, where: str) -> float:
    if isinstance(value, str):
        try:
            found = share_of_text(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    else:
        raise InputError(f'{where}: write a share as "20%" or 0.2')
    if not 0 < found < 1:  # nan as well
        raise InputError(f'{where}: a share is above 0 and below 1: write "20%" or 0.2')
    return found


def _ratio(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise InputError(f"{where}: write a ratio to the base as a number, such as 1.05")
    return float(value)
