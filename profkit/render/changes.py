"""Changes and what they promise, in words and for programs."""

from dataclasses import asdict
from typing import Any

from ..schema.estimate import Estimate
from ..schema.findings import Comparison
from ..schema.loader import PartKind
from ..schema.prediction import Change, Prediction, Predictions, Question
from ..schema.stage import STAGES
from .estimates import interval, plain_times
from .units import one_line, percent, plural, significant

BEST_SHOWN = 3
_NO_CHANGES = {stage.value for stage in STAGES} | {kind.value for kind in PartKind} | {"queue"}
LEAST_SHOWN = 1.05
"""The least speedup that a report tells of unasked."""


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
    if question.change is Change.THREADS:
        return plural(round(amount), "intra-op thread")
    if question.change is Change.PREFETCH:
        return f"prefetch {round(amount)}"
    if question.change is Change.BATCH:
        return f"batch {significant(amount)} times as large"
    return name


def best_line(found: Predictions | None, comparison: Comparison | None) -> str | None:
    """The changes that promise most, each with its interval; None where none promises anything.

    Args:
        found: about a run.
        comparison: of that run with another one: then memory was measured, and is not predicted.
    """
    if found is None:
        return None
    known = () if comparison is None else (Change.MEMORY,)
    answers = [one for one in found.answers if one.question.change not in known]
    ranked = sorted(answers, key=lambda one: -_speedup(one))
    best = [
        one
        for one in ranked
        if _low(one.speedup) > 1
        and _speedup(one) >= LEAST_SHOWN
        # That a stage, or fetching, takes nothing is no change that anybody could make.
        and one.question.name not in _NO_CHANGES
    ]
    if not best:
        return None
    said = [
        f"{question_words(one.question)} {plain_times(one.speedup)}"
        for one in best[:BEST_SHOWN]
        if one.speedup is not None
    ]
    return f"{'; '.join(said)}: predicted; profkit tune measures"


def _speedup(answer: Prediction) -> float:
    return 0.0 if answer.speedup is None else answer.speedup.value


def _low(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None or estimate.low is None else estimate.low


def answer_json(answer: Prediction) -> dict[str, Any]:
    """An answer; null for what the recording cannot tell."""
    question = answer.question
    step, speedup = answer.step_ns, answer.speedup
    return {
        "change": question_words(question),
        "question": {**asdict(question), "change": question.change.value},
        "step_ns": None if step is None else step.value,
        "step_ns_interval": interval(step),
        "speedup": None if speedup is None else speedup.value,
        "speedup_interval": interval(speedup),
        "bound": answer.bound,
        "reason": answer.reason,
        "assumes": answer.assumes,
    }
