"""Report -> JSON: a versioned contract; the README documents it."""

from dataclasses import asdict
from typing import Any

import msgspec

from ..schema.drilldown import Drilldown
from ..schema.findings import (
    REPORT_SCHEMA,
    Comparison,
    Evidence,
    Report,
    RunFindings,
    StageFinding,
    Verdict,
)
from ..schema.loader_findings import LoaderFindings
from ..schema.ranks import RanksFindings, Spread, Straggler
from ..schema.run import ProbeFacts
from .changes import answer_json
from .estimates import interval
from .loader import loader_sentences
from .ranks import rank_sentences
from .wording import ending_line, verdict_sentence


def render_json(report: Report) -> str:
    """The report as indented JSON; unrounded numbers, null for what was not observed."""
    first = report.runs[0] if report.runs else None
    content = {
        "schema": REPORT_SCHEMA,
        "comparison": None if report.comparison is None else _comparison(report.comparison),
        "ranks": None if report.ranks is None else _ranks(report.ranks),
        "runs": [_run(run, report.comparison if run is first else None) for run in report.runs],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "base": comparison.base,
        "other": comparison.other,
        "speedup": comparison.speedup.value,
        "speedup_interval": interval(comparison.speedup),
        "block_pairs": comparison.speedup.blocks,
        "base_step_ns": comparison.base_step_ns,
        "other_step_ns": comparison.other_step_ns,
    }


def _ranks(found: RanksFindings) -> dict[str, Any]:
    replay, stragglers = found.replay, found.stragglers
    return {
        "world_size": found.world_size,
        "missing": list(found.missing),
        "unreadable": list(found.unreadable),
        "died": list(found.died),
        "waits_known": found.waits_known,
        "across": {
            "own_ns": _spread(found.own),
            "step_ns": _spread(found.step),
            "wait_ns": _spread(found.wait),
            "stages": {stage.value: _spread(one) for stage, one in found.stages.items()},
        },
        "replay": None
        if replay is None
        else {
            "steps": replay.steps,
            "step_ns": replay.step_ns,
            "error_share": replay.error_share,
            "lost_share": replay.lost_share.value,
            "lost_share_interval": interval(replay.lost_share),
            "jitter_share": replay.jitter_share,
        },
        "stragglers": None if stragglers is None else [_straggler(one) for one in stragglers],
        "recovered_share": None if found.recovered_share is None else found.recovered_share.value,
        "sentences": list(rank_sentences(found)),
        "ranks": [
            {
                **asdict(one),
                "stages": {stage.value: median for stage, median in one.stages.items()},
            }
            for one in found.ranks
        ],
        "gaps": list(found.gaps),
    }


def _spread(spread: Spread | None) -> dict[str, float] | None:
    if spread is None:
        return None
    return {"lowest": spread.low, "median": spread.middle, "highest": spread.high}


def _straggler(one: Straggler) -> dict[str, Any]:
    longer = one.longer_share
    return {
        "rank": one.rank,
        "stage": None if one.stage is None else one.stage.value,
        "longer_share": None if longer is None else longer.value,
        "longer_share_interval": None if longer is None else interval(longer),
        "excess_share": one.excess_share.value,
        "excess_share_interval": interval(one.excess_share),
        "recovered_share": one.recovered_share.value,
        "recovered_share_interval": interval(one.recovered_share),
        "lost_share": one.lost_share.value,
        "lost_share_interval": interval(one.lost_share),
        "step_without_ns": one.without_ns,
    }


def _run(run: RunFindings, comparison: Comparison | None) -> dict[str, Any]:
    manifest = run.manifest
    steps = run.breakdown.steps
    main, *others = run.verdicts
    mean = run.breakdown.mean_step_ns
    return {
        "run": {
            "name": manifest.name,
            "command": manifest.command,
            "started_at": manifest.started_at,
            "ended": manifest.ended,
            "ending": {"kind": run.ending.kind.value, "sentence": ending_line(run.ending)},
            "device": manifest.device,
            "workload": manifest.workload,
            "hardware": asdict(manifest.environment.hardware),
            "versions": manifest.environment.versions,
            "commit": manifest.environment.commit,
            "intra_op_threads": manifest.environment.intra_op_threads,
            "data": None if manifest.data is None else asdict(manifest.data),
            "loader": None if manifest.loader is None else asdict(manifest.loader),
        },
        "steps": {
            "count": 0 if steps is None else steps.count,
            "warmup": run.breakdown.warmup,
            "disturbed": run.breakdown.disturbed,
            "partial": run.breakdown.partial,
            "compiled": run.breakdown.compiled,
            "interrupted": run.breakdown.interrupted,
            "evaluation": run.breakdown.evaluation,
            "evaluation_ns": run.breakdown.evaluation_ns,
            "samples_per_s": run.breakdown.samples_per_s,
            "step_time_ns": None
            if steps is None
            else {
                "median": steps.median,
                "iqr": steps.iqr,
                "p95": steps.p95,
                "total": steps.total,
                "mean": None if mean is None else mean.value,
                "mean_interval": None if mean is None else interval(mean),
            },
        },
        "stages": {
            stage.value: None if finding is None else _stage(finding)
            for stage, finding in run.breakdown.stages.items()
        },
        "core_wait": None
        if run.core_wait is None
        else {"share": run.core_wait.value, "share_interval": interval(run.core_wait)},
        "verdict": {
            **_verdict(main, run, comparison),
            "also": [_verdict(verdict, run, comparison) for verdict in others],
        },
        "loader": None if run.loader is None else _loader(run.loader),
        "what_if": None
        if run.what_if is None
        else [answer_json(answer) for answer in run.what_if.answers],
        "drilldown": [_drilldown(found) for found in run.drilldown],
        "overhead": [_probe(probe) for probe in manifest.probes if probe.gap is None],
        "apart": [asdict(apart) for apart in manifest.apart],
        "gaps": list(run.gaps),
    }


def _loader(found: LoaderFindings) -> dict[str, Any]:
    producer, depth = found.producer, found.depth
    return {
        "workers": found.workers,
        "prefetch": found.prefetch,
        "method": found.method,
        "producer": None
        if producer is None
        else {
            "batches": producer.batches,
            "detailed": producer.detailed,
            "batch_ns": producer.batch_ns.value,
            "batch_ns_interval": interval(producer.batch_ns),
            "median_ns": producer.median_ns,
            "p95_ns": producer.p95_ns,
            "cpu_share": producer.cpu_share,
            "core_wait_share": producer.core_wait_share,
            "samples": producer.samples,
            "parts": [{**asdict(part), "kind": part.kind.value} for part in producer.parts],
        },
        "wait": None if found.wait is None else asdict(found.wait),
        "queue": None if depth is None else asdict(depth),
        "start_up": None if found.start_up is None else asdict(found.start_up),
        "receive_ns": found.receive_ns,
        "pin_ns": found.pin_ns,
        "sentences": list(loader_sentences(found)),
    }


def _stage(finding: StageFinding) -> dict[str, Any]:
    return {
        "share": finding.share.value,
        "share_interval": interval(finding.share),
        "total_ns": finding.total_ns,
        "median_ns": finding.median_ns,
        "iqr_ns": finding.iqr_ns,
    }


def _verdict(verdict: Verdict, run: RunFindings, comparison: Comparison | None) -> dict[str, Any]:
    return {
        "kind": verdict.kind,
        "stage": None if verdict.stage is None else verdict.stage.value,
        "severity": verdict.severity,
        "sentence": verdict_sentence(verdict, run, comparison),
        "evidence": [_evidence(one) for one in verdict.evidence],
        "at_stake_share": verdict.at_stake_share,
        "advice": verdict.advice,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return asdict(evidence)


def _drilldown(found: Drilldown) -> dict[str, Any]:
    return {**asdict(found), "stage": found.stage.value}


def _probe(probe: ProbeFacts) -> dict[str, Any]:
    return {
        "probe": probe.name,
        "steps": probe.steps,
        "wall_ns": probe.wall_ns,
        "step_ns": probe.step_ns,
        "detail": probe.detail,
    }
