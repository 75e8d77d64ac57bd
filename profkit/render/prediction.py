"""Predictions as a table, for a screen, as Markdown and as JSON."""

from dataclasses import asdict
from typing import Any

import msgspec

from ..schema.estimate import Estimate
from ..schema.prediction import Change, Prediction, Predictions, Question
from ..schema.stage import STAGES
from .markdown import markdown_table, safe
from .tables import Table
from .units import ABSENT, milliseconds, one_line, percent, plural, significant, times

SCHEMA = 1
"""Version of the JSON. History: 1, the first one (2026-11)."""


def question_words(question: Question) -> str:
    """A change in words."""
    amount = question.amount
    name = next((s.label for s in STAGES if s.value == question.name), question.name)
    name = one_line(name, 60)
    if question.change is Change.PART:
        return f"without {name}" if amount >= 1 else f"{name} {percent(amount)} shorter"
    if question.change is Change.MEMORY:
        return "data in memory"
    if question.change is Change.WORKERS:
        return plural(round(amount), "worker") if amount else "no workers"
    if question.change is Change.PREFETCH:
        return f"prefetch {round(amount)}"
    if question.change is Change.BATCH:
        return f"batch {significant(amount)} times as large"
    return name


def prediction_table(found: Predictions) -> Table:
    """The answers, each in a row."""
    rows = []
    for answer in found.answers:
        if answer.step_ns is None or answer.speedup is None:
            bound = "" if answer.bound is None else f"at most {significant(answer.bound)}×"
            cells = (ABSENT, bound or ABSENT, answer.reason or "")
        else:
            note = "" if answer.assumes is None else f"taken for granted: {answer.assumes}"
            cells = (_step(answer.step_ns), _plain_times(answer.speedup), note)
        rows.append((question_words(answer.question), *cells))
    return Table(
        title=f"What if: {one_line(found.run, 40)}, {milliseconds(found.step_ns.value)} ms a step",
        head=("change", "ms a step (95 %)", "speedup (95 %)", "note"),
        rows=tuple(rows),
        numbers=(False, True, True, False),
        note=f"Replayed from {plural(found.batches, 'batch', 'es')}; unchanged, the replay takes "
        f"{milliseconds(found.replayed_ns)} ms a step. Predicted, not measured: profkit tune "
        "measures.",
    )


def render_markdown(found: Predictions) -> str:
    """Predictions as Markdown."""
    lines = markdown_table(prediction_table(found), level=1)
    lines += [f"- {safe(gap, 400)}" for gap in found.gaps]
    return "\n".join(lines)


def render_json(found: Predictions) -> str:
    """Predictions as indented JSON; unrounded, null for what the recording cannot tell."""
    content = {
        "schema": SCHEMA,
        "run": found.run,
        "step_ns": found.step_ns.value,
        "step_ns_interval": _interval(found.step_ns),
        "replayed_ns": found.replayed_ns,
        "batches": found.batches,
        "answers": [_answer(one) for one in found.answers],
        "gaps": list(found.gaps),
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _answer(answer: Prediction) -> dict[str, Any]:
    question = answer.question
    step, speedup = answer.step_ns, answer.speedup
    return {
        "change": question_words(question),
        "question": {**asdict(question), "change": question.change.value},
        "step_ns": None if step is None else step.value,
        "step_ns_interval": _interval(step),
        "speedup": None if speedup is None else speedup.value,
        "speedup_interval": _interval(speedup),
        "bound": answer.bound,
        "reason": answer.reason,
        "assumes": answer.assumes,
    }


def _interval(estimate: Estimate | None) -> list[float] | None:
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return [estimate.low, estimate.high]


def _step(step: Estimate) -> str:
    if step.low is None or step.high is None:
        return milliseconds(step.value)
    return f"{milliseconds(step.value)} ({milliseconds(step.low)} to {milliseconds(step.high)})"


def _plain_times(speedup: Estimate) -> str:
    return times(speedup).replace("95 % interval ", "")
