"""What a gate found, in sentences."""

from collections.abc import Sequence

from ..schema.decision import Decision, Outcome
from ..schema.estimate import Estimate
from ..schema.gate import GateFindings, StageChange, Version
from .units import (
    beside_limit,
    duration,
    one_line,
    percent,
    plural,
    signed_milliseconds,
    signed_percent,
)
from .wording import hardware_line, loader_words, versions_line

REGRESSION, OVER_BUDGET = "REGRESSION", "OVER BUDGET"
INCONCLUSIVE, WITHIN = "INCONCLUSIVE", "within the limits"
OUTCOMES = {
    Outcome.ABOVE: "above the limit",
    Outcome.BELOW: "within",
    Outcome.INCONCLUSIVE: "inconclusive",
}
_LONGEST_NAME = 40
_SHOWN = {"throughput": "mean step"}
"""What is named otherwise than in the budget: that the throughput is up sounds good."""
_LEAST_PART = 0.1
"""Of the step's change, from which a stage is named."""
_MOST_STAGES = 3


def verdict_word(found: GateFindings) -> str:
    """The result in a word or two."""
    if found.outcome is Outcome.BELOW:
        return WITHIN
    if found.outcome is Outcome.INCONCLUSIVE:
        return INCONCLUSIVE
    ratios = any(one.outcome is Outcome.ABOVE and one.unit == "ratio" for one in found.decisions)
    return REGRESSION if ratios else OVER_BUDGET


def gate_sentence(found: GateFindings) -> str:
    """The values that make the result what it is, each with its limit."""
    decisive = [one for one in found.decisions if one.outcome is found.outcome]
    if not decisive:
        return "not every limit could be judged"
    return "; ".join(map(decision_sentence, decisive))


def decision_sentence(decision: Decision) -> str:
    """A value and its limit, e.g. `typical step +8.3 % (95 %: ...), limit +5.0 %`."""
    return f"{limited(decision)} {measured(decision)}, limit {limit(decision)}"


def limited(decision: Decision) -> str:
    """What has the limit."""
    return one_line(_SHOWN.get(decision.what, decision.what), _LONGEST_NAME)


def measured(decision: Decision) -> str:
    """The value with its interval."""
    return beside_limit(decision.estimate, decision.unit)


def limit(decision: Decision) -> str:
    """What the value is held against."""
    return beside_limit(Estimate(decision.limit, None, None, 0), decision.unit)


def name_of(version: Version) -> str:
    """What a version is called."""
    return one_line(version.name, _LONGEST_NAME) or "unnamed"


def explanation(found: GateFindings) -> str | None:
    """Which stages make the step of the new version longer or shorter.

    None without a base, and where it would explain nothing: no stage stands out, and no ratio is
    above its limit.
    """
    base, new = found.base, found.new
    if base is None:
        return None
    total = new.mean_step_ns - base.mean_step_ns
    named = [one for one in found.changes if _is_part(one, total, base, new)][:_MOST_STAGES]
    if not named:
        is_open = verdict_word(found) == REGRESSION
        return "no stage alone stands out of the noise" if is_open else None
    word = "longer" if total > 0 else "shorter"
    parts = "; ".join(_change(one, base) for one in named)
    return f"the mean step is {duration(abs(total))} {word}: {parts}"


def _is_part(change: StageChange, total_ns: float, base: Version, new: Version) -> bool:
    if change.change_ns * total_ns <= 0 or abs(change.change_ns) < _LEAST_PART * abs(total_ns):
        return False
    ratio = change.ratio
    if ratio is None or ratio.low is None or ratio.high is None:
        # Of a stage that only one of them has; else there were too few rounds to tell.
        seen = [one.stage_ns.get(change.stage) is not None for one in (base, new)]
        return seen[0] != seen[1]
    return ratio.low > 1 or ratio.high < 1


def _change(change: StageChange, base: Version) -> str:
    amount = f"{change.stage.label} {signed_milliseconds(change.change_ns)} ms"
    if change.ratio is not None:
        return f"{amount}, {beside_limit(change.ratio, 'ratio')}"
    is_new = base.stage_ns.get(change.stage) is None
    return f"{amount}, {'not there before' if is_new else 'no longer there'}"


def remarks(found: GateFindings) -> list[str]:
    """What a reader should know before believing the numbers, or acting on them."""
    texts = []
    decided = {one.what: one.outcome for one in found.decisions}
    if (
        decided.get("throughput") is Outcome.ABOVE
        and decided.get("typical step", Outcome.ABOVE) is not Outcome.ABOVE
    ):
        texts.append(
            "the typical step is not above its limit: rare slow steps make the mean longer"
        )
    base, new = found.base, found.new
    if base is not None and base.loader != new.loader:
        words = [
            f"{name_of(one)}: {'none seen' if one.loader is None else loader_words(one.loader)}"
            for one in (base, new)
        ]
        texts.append(f"their loaders differ: {'; '.join(words)}")
    if found.outcome is Outcome.INCONCLUSIVE:
        texts.append(
            "to tell, give it more time (--max-time), a quieter machine, or a limit further from "
            "the value"
        )
    return texts


def gate_facts(found: GateFindings) -> list[tuple[str, str]]:
    """How it was measured: name and text of each fact."""
    base, new = found.base, found.new
    versions = [one for one in (base, new) if one is not None]
    facts = [(label, _version(one)) for label, one in zip(_labels(found), versions, strict=True)]
    steps = " and ".join(str(one.steps) for one in versions)
    turns = "in turns, " if base is not None else ""
    processes = plural(new.instances, "process", "es")
    facts.append(
        (
            "measured",
            f"{processes}{' of each' if base is not None else ''}, {turns}{steps} steps, "
            f"{_seconds(found.measured_s)} of {_seconds(found.wall_s)} in all, "
            f"{plural(found.looks, 'look')} at the data",
        )
    )
    facts.append(("noise", _noise(found)))
    if new.loader is not None:
        facts.append(("fed from", loader_words(new.loader)))
    facts.append(("hardware", hardware_line(found.environment, found.device)))
    facts.append(("versions", versions_line(found.environment)))
    return facts


def _labels(found: GateFindings) -> Sequence[str]:
    return ("new",) if found.base is None else ("base", "new")


def _version(version: Version) -> str:
    commit = "" if version.commit is None else f" ({one_line(version.commit, 60)})"
    return f"{name_of(version)}{commit}: {one_line(version.command, 300)}"


def _noise(found: GateFindings) -> str:
    noise = found.noise
    parts = [f"blocks of one process differ by {percent(noise.block_share)} (standard deviation)"]
    parts.append(f"{plural(noise.warm_up_blocks, 'warm-up block')} left out")
    parts.append(f"{plural(noise.outliers, 'outlier')} among the pairs of blocks")
    if noise.drift is None:
        parts.append("no drift")
    else:
        parts.append(f"drift of {signed_percent(noise.drift)} while it measured")
    return ", ".join(parts)


def _seconds(seconds: float) -> str:
    return duration(seconds * 1e9)
