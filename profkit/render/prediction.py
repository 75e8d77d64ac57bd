"""Predictions as a table, for a screen, as Markdown and as JSON."""

import msgspec
from rich.console import Console

from ..schema.estimate import Estimate
from ..schema.prediction import Predictions
from .changes import answer_json, question_words
from .estimates import interval, plain_times
from .markdown import markdown_table, safe
from .tables import Table
from .terminal import print_line, print_table
from .units import ABSENT, milliseconds, one_line, percent, plural, significant

SCHEMA = 1
"""Version of the JSON. History: 1, the first one (2026-11)."""


def prediction_table(found: Predictions) -> Table:
    """The answers, each in a row."""
    rows = []
    for answer in found.answers:
        if answer.step_ns is None or answer.speedup is None:
            bound = "unknown"
            if answer.bound is not None:
                bound += f", at most {significant(answer.bound)}×"
            cells = (ABSENT, bound)
        else:
            cells = (_step(answer.step_ns), plain_times(answer.speedup))
        rows.append((question_words(answer.question), *cells))
    return Table(
        title=f"What if: {one_line(found.run, 40)}, {milliseconds(found.step_ns.value)} ms a step",
        head=("change", "ms a step (95 %)", "speedup (95 %)"),
        rows=tuple(rows),
        numbers=(False, True, True),
        note=f"Replayed from {plural(found.batches, 'batch', 'es')}: unchanged, that takes "
        f"{milliseconds(found.replayed_ns)} ms a step{_held_out(found)}. Predicted, not measured: "
        "profkit tune measures.",
    )


def prediction_sentences(found: Predictions) -> tuple[str, ...]:
    """What estimates take for granted, and why there are none, each once."""
    sentences: dict[str, list[str]] = {}
    for answer in found.answers:
        for text in (answer.assumes and f"taken for granted: {answer.assumes}", answer.reason):
            if text:
                sentences.setdefault(text, []).append(question_words(answer.question))
    said = [f"{', '.join(names)}: {text}" for text, names in sentences.items()]
    if found.workers is not None:
        said.append(f"fewest loader workers with nearly the best predicted step: {found.workers}")
    return tuple(said)


def render_markdown(found: Predictions) -> str:
    """Predictions as Markdown."""
    lines = markdown_table(prediction_table(found), level=1)
    lines += [f"- {safe(text, 400)}" for text in (*prediction_sentences(found), *found.gaps)]
    return "\n".join([*lines, ""])


def print_predictions(found: Predictions, console: Console) -> None:
    """Print predictions."""
    print_table(console, prediction_table(found))
    for text in prediction_sentences(found):
        print_line(console, "note", text)
    for text in found.gaps:
        print_line(console, "gap", one_line(text, 400))


def render_json(found: Predictions) -> str:
    """Predictions as indented JSON; unrounded, null for what the recording cannot tell."""
    content = {
        "schema": SCHEMA,
        "run": found.run,
        "step_ns": found.step_ns.value,
        "step_ns_interval": interval(found.step_ns),
        "replayed_ns": found.replayed_ns,
        "held_out_error": found.held_out_error,
        "workers": found.workers,
        "batches": found.batches,
        "answers": [answer_json(one) for one in found.answers],
        "gaps": list(found.gaps),
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _held_out(found: Predictions) -> str:
    if found.held_out_error is None:
        return ""
    return f", and one half of the run is {percent(abs(found.held_out_error))} off the other"


def _step(step: Estimate) -> str:
    if step.low is None or step.high is None:
        return milliseconds(step.value)
    return f"{milliseconds(step.value)} ({milliseconds(step.low)} to {milliseconds(step.high)})"
