"""TuneFindings -> a terminal, Markdown, JSON."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from ..schema.prediction import Prediction
from ..schema.tuning import TUNE_SCHEMA, Gain, Trial, TuneFindings
from .changes import answer_json
from .estimates import interval, plain_times
from .markdown import markdown_table, safe, safe_code
from .tables import Table
from .terminal import print_line, print_table
from .units import ABSENT, milliseconds, one_line, plural, significant, times
from .wording import hardware_line, versions_line

_LONGEST = 400


def trial_table(found: TuneFindings, *, is_whole: bool = True) -> Table:
    """The trials, best first: predicted and measured side by side.

    Args:
        found: the result.
        is_whole: whether the reasons stand in it; else `print_tuning` gives them below.
    """
    rows = [
        (
            one_line(trial.name, 70),
            _predicted(trial.predicted),
            _measured(trial),
            outcome(trial) if is_whole else _short(trial),
        )
        for trial in found.trials
    ]
    return Table(
        title=f"Fixes tried on {one_line(found.command, 60)}, {milliseconds(found.step_ns)} ms a "
        "step as it is",
        head=("fix", "predicted", "measured (95 %)", "outcome"),
        rows=tuple(rows),
        numbers=(False, True, True, False),
        note=f"The program was started {plural(found.runs, 'time')}; {found.wall_s:.0f} of "
        f"{found.budget_s:.0f} s were spent, {found.looks_s:.0f} of them on looks before the "
        "trials.",
    )


def outcome(trial: Trial) -> str:
    """What became of a trial, in words."""
    words = trial.gain.value
    if trial.gain in (Gain.FAILED, Gain.LEFT):
        return f"{words}: {one_line(trial.reason or '', 200)}"
    if trial.same is not True:
        why = f": {one_line(trial.reason, 200)}" if trial.reason else ""
        return f"{words}, not verified{why}"
    if trial.gain is not Gain.FASTER:
        return words
    if trial.adds is False:
        return f"{words}, proven; adds nothing"
    return f"{words}, proven"


def _short(trial: Trial) -> str:
    """The same in few words."""
    if trial.gain is Gain.LEFT:
        return outcome(trial)
    if trial.gain is Gain.FAILED:
        words: str = trial.gain.value
        return words
    return outcome(replace(trial, reason=None))


def tune_sentence(found: TuneFindings) -> str:
    """The result in one sentence."""
    best = found.best
    if best is not None and best.speedup is not None:
        return f"{one_line(best.name, 120)} makes it {times(best.speedup)} faster, proven"
    first = next((one for one in found.trials if one.gain is Gain.FASTER), None)
    if first is None or first.speedup is None:
        return "no fix is proven to make it faster"
    why = one_line(first.reason or "its results could not be held together", 200)
    return (
        f"nothing is verified: {one_line(first.name, 120)} measures {times(first.speedup)} faster, "
        f"but {why}"
    )


def recipe(found: TuneFindings) -> tuple[str, ...]:
    """The lines to change, for the best that is proven."""
    best = found.best
    if best is None:
        return ()
    lines: list[str] = []
    for fix in best.fixes:
        lines += [f"# {fix.name}, where {fix.helps}", *fix.recipe]
    return tuple(lines)


def print_tuning(found: TuneFindings, console: Console) -> None:
    """Print the result."""
    print_table(console, trial_table(found, is_whole=False))
    for trial in found.trials:
        if trial.reason and trial.gain is not Gain.LEFT and trial.reason not in found.gaps:
            print_line(console, one_line(trial.name, 70), outcome(trial))
    for gap in found.gaps:
        print_line(console, "gap", one_line(gap, _LONGEST))
    for text in _notes(found):
        print_line(console, "note", text)
    console.print()
    print_line(console, "result", tune_sentence(found), "bold")
    for line in recipe(found):
        # As it is: its indentation is part of it.
        console.print(Text(f"    {_indented(line, one_line)}"), soft_wrap=True)


def render_tuning_markdown(found: TuneFindings) -> str:
    """The result as Markdown."""
    lines = ["# profkit tune", "", f"**{safe(tune_sentence(found), _LONGEST)}**", ""]
    if lines_to_change := recipe(found):
        lines += ["```python", *(_indented(line, safe_code) for line in lines_to_change), "```", ""]
    lines += markdown_table(trial_table(found))
    lines += ["## How it was measured", ""]
    lines += [f"- program: `{safe_code(found.command)}`"]
    lines += [f"- hardware: {safe(hardware_line(found.environment, found.device), _LONGEST)}"]
    lines += [f"- versions: {safe(versions_line(found.environment), _LONGEST)}"]
    lines += [f"- {safe(text, _LONGEST)}" for text in _notes(found)]
    lines += ["", "## Gaps", ""]
    lines += [f"- {safe(gap, _LONGEST)}" for gap in found.gaps] or ["- none"]
    return "\n".join([*lines, ""])


def render_tuning_json(found: TuneFindings) -> str:
    """The findings as indented JSON; unrounded, null for what was not measured."""
    content = {
        "schema": TUNE_SCHEMA,
        "command": found.command,
        "sentence": tune_sentence(found),
        "step_ns": found.step_ns,
        "trials": [_trial(one) for one in found.trials],
        "recipe": recipe(found),
        "environment": found.environment,
        "device": found.device,
        "loader": found.loader,
        "runs": found.runs,
        "wall_s": found.wall_s,
        "budget_s": found.budget_s,
        "looks_s": found.looks_s,
        "gaps": found.gaps,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _indented(line: str, clean: Callable[[str], str]) -> str:
    """A line of code, cleaned, with its indentation and the two spaces before a remark."""
    code = line.lstrip(" ")
    indentation = " " * (len(line) - len(code))
    return indentation + "  # ".join(clean(part) for part in code.split("  # "))


def _notes(found: TuneFindings) -> list[str]:
    best = found.best
    if best is None:
        return []
    notes = [one_line(text, _LONGEST) for text in best.notes]
    if best.first is not None:
        notes.append(
            f"the best was measured once more, by other processes, and that is what counts; when "
            f"it was chosen it measured {plain_times(best.first)}"
        )
    if best.once_s is not None and best.pays_after is not None:
        notes.append(
            f"what it takes once, {best.once_s:.1f} s, is part of no step: that is won back after "
            f"about {plural(best.pays_after, 'step')}"
        )
    return notes


def _predicted(answer: Prediction | None) -> str:
    if answer is None:
        return ABSENT
    if answer.speedup is not None:
        return plain_times(answer.speedup)
    return ABSENT if answer.bound is None else f"at most {significant(answer.bound)}×"


def _measured(trial: Trial) -> str:
    if trial.speedup is None:
        return ABSENT
    return plain_times(trial.speedup)


def _trial(trial: Trial) -> dict[str, Any]:
    speedup, answer = trial.speedup, trial.predicted
    return {
        "name": trial.name,
        "fixes": [
            {**asdict(fix), "knob": fix.knob.value, "same": fix.same.value} for fix in trial.fixes
        ],
        "outcome": trial.gain.value,
        "proven": trial.is_proven,
        "adds": trial.adds,
        "same": trial.same,
        "speedup": None if speedup is None else speedup.value,
        "speedup_interval": interval(speedup),
        "first_speedup": None if trial.first is None else trial.first.value,
        "first_speedup_interval": interval(trial.first),
        "predicted": None if answer is None else answer_json(answer),
        "reason": trial.reason,
        "notes": trial.notes,
        "measured_s": trial.measured_s,
        "once_s": trial.once_s,
        "pays_after": trial.pays_after,
    }
