"""The few public verbs: record, trace, report, compare. They compose the parts."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from .analyze.compare import compare as compare_turns
from .diagnose.verdict import add_comparison
from .errors import InputError
from .probe.command import shown_command
from .reading import rank_findings, run_findings
from .recorder import Recorder
from .schema.comparison import RunsComparison
from .schema.findings import Report, RunFindings
from .schema.gate import GateFindings
from .schema.prediction import Predictions, Question
from .schema.ranks import RanksFindings
from .schema.record import RunRecord
from .schema.run import COMPLETED
from .schema.tuning import TuneFindings
from .scripts.target import Target, check_target
from .scripts.tracing import ScriptOrder
from .store.passes import TENSORBOARD
from .store.rank_directories import find_ranks
from .store.records import read_run
from .store.run_directory import (
    check_directory,
    create_directory,
    discard_set,
    find_runs,
    write_set,
)
from .verify.order import CheckOrder
from .watching import active
from .workloads.order import TraceOrder
from .writing import CHECK_FILES, FIGURES, check_free, save_text, write_check, write_report

T = TypeVar("T")

__all__ = [
    "CHECK_FILES",
    "CheckOrder",
    "ScriptOrder",
    "Show",
    "TraceOrder",
    "check",
    "compare",
    "describe_machine",
    "observe",
    "record",
    "render_comparison",
    "render_predictions",
    "render_report",
    "render_tuning",
    "report",
    "save_text",
    "trace",
    "trace_script",
    "tune",
    "what_if",
    "write_report",
]

Show = Callable[[str, float], None]
"""Told what happens now, and the part of it that is done, 0 to 1."""


def record(
    path: str | Path, *, name: str | None = None, warmup: int = 0, overwrite: bool = False
) -> Recorder:
    """A recorder of a training loop; use it in a `with` statement.

    Args:
        path: run directory to write.
        name: what reports call the run; the directory's name unless given.
        warmup: first steps to leave out of the times.
        overwrite: replace what profkit wrote to `path` before.

    Raises:
        InputError: a negative `warmup`.
        OutputError: on entering, when `path` holds something or cannot be written.
    """
    if warmup < 0:
        raise InputError(f"warmup={warmup}: give 0 or more steps")
    return Recorder(path, name=name, warmup=warmup, overwrite=overwrite)


@contextmanager
def observe(
    path: str | Path,
    *,
    name: str | None = None,
    warmup: int = 10,
    overwrite: bool = False,
    samples: bool = True,
) -> Iterator[None]:
    """Observe whatever trains in the body, by the hooks that `profkit run` uses.

    For notebooks, and for programs that are started by something else. Nothing in the training is
    changed: steps and stages are told from what it does.

    Args:
        path: run directory to write.
        name: what reports call the run; the directory's name unless given.
        warmup: training steps to leave out of the times.
        overwrite: replace what profkit wrote to `path` before.
        samples: take stack samples in a few windows, whose steps are left out of the times.

    Raises:
        InputError: a negative `warmup`, or another observation goes on in this process.
        OutputError: `path` holds something or cannot be written.
    """
    from .observation import Observation, Order
    from .probe.telling import tell

    if warmup < 0:
        raise InputError(f"warmup={warmup}: give 0 or more steps")
    if active() is not None:
        raise InputError("this process is observed already: one observation at a time")
    directory = Path(path).absolute()
    create_directory(directory, force=overwrite)
    order = Order(
        path=directory,
        name=name or directory.name,
        command=shown_command(sys.argv),
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        warmup=warmup,
        samples=samples,
    )
    observation = Observation(order, tell)
    observation.begin()
    try:
        yield
    except BaseException as error:
        observation.end(f"stopped by {type(error).__name__}")
        raise
    observation.end(COMPLETED)


def report(*paths: str | Path) -> Report:
    """What run directories show; needs neither torch nor the machine that wrote them.

    Args:
        paths: run directories, or directories that hold some; one of them may hold the ranks
            of a launch, of which the lowest and the first straggler are shown as runs.

    Raises:
        InputError: more than one launch with ranks.
        RunError: one of them is no run, is damaged, or comes from a newer profkit.
    """
    places = [Path(path) for path in paths]
    launches = [place for place in places if find_ranks(place)]
    if len(launches) > 1:
        raise InputError(f"{len(launches)} launches with ranks: report one at a time")
    found: list[RunFindings] = []
    records: list[RunRecord] = []
    ranks: RanksFindings | None = None
    for place in places:
        if place in launches:
            ranks, shown = rank_findings(place)
            found += shown
            continue
        for run in find_runs(place):
            records.append(read_run(run))
            found.append(run_findings(run, records[-1]))
    comparison = (
        compare_turns(records[0], records[1]) if len(records) > 1 and ranks is None else None
    )
    if comparison is not None:
        found[0] = replace(found[0], verdicts=add_comparison(found[0].verdicts, comparison))
    return Report(comparison, tuple(found), ranks)


def compare(*paths: str | Path, anyway: bool = False) -> RunsComparison:
    """Runs beside each other: a new one against a base, or several in the order of speed.

    Args:
        paths: two or more run directories, or directories that hold one; or a single directory
            that holds several, such as `profkit trace` writes.
        anyway: compare times although hardware, device, data or batch size differ.

    Raises:
        InputError: they differ in one of these, there is only one, or it is a launch with ranks.
        RunError: one of them is no run, is damaged, or comes from a newer profkit.
    """
    from .comparing import compare_directories

    if not paths:
        raise InputError("no run is given: name two run directories to compare")
    return compare_directories([Path(path) for path in paths], anyway=anyway)


def what_if(
    path: str | Path, questions: Sequence[Question] = (), probes: Sequence[str | Path] = ()
) -> Predictions:
    """What a recorded run's step would take after changes, each with its interval.

    Needs neither torch nor the machine that wrote the run.

    Args:
        path: a run directory, or one that holds some: then the first of them.
        questions: those that suit the run unless given.
        probes: short runs of the same program on the same machine, with other loader workers or
            intra-op threads: how these slow each other down can only be measured.

    Raises:
        InputError: too few steps to judge by, or something is asked that the run does not have.
        RunError: it is no run, is damaged, or comes from a newer profkit.
    """
    from .predicting import predict_run

    return predict_run(Path(path), questions, [Path(one) for one in probes])


def trace(
    order: TraceOrder,
    out: Path | None = None,
    *,
    force: bool = False,
    show: Show = lambda what, share: None,
) -> tuple[Path, Report]:
    """Train a built-in workload, and write what its steps cost and why.

    Args:
        order: what to train, and what to look at.
        out: directory to write; below `runs/`, named after workload and time, unless given.
        force: replace what profkit wrote to `out` before.
        show: told about the progress.

    Returns:
        The directory: a run directory per source, `report.md` with its figures, and the
        TensorBoard traces; and the report.

    Raises:
        InputError: no such device or workload.
        DataError: the data directory is not what it should be.
        OutputError: `out` cannot be written, or holds something.
    """
    from .workloads.tracing import look_up, run_order

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    directory = out if out is not None else Path("runs", f"{order.workload}-{stamp}")
    check_directory(directory, force=force)
    setting = look_up(order, show)
    create_directory(directory, force=force)
    write_set(directory, order.sources)
    run_order(setting, directory, show)
    show("writing the report", 1.0)
    found = report(directory)
    write_report(directory, found)
    return directory, found


def trace_script(
    order: ScriptOrder,
    out: Path | None = None,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Path, Report, int]:
    """Run a user's program for the times, then a few steps of it for each probe.

    Args:
        order: what to trace.
        out: directory to write; below `runs/`, named after program and time, unless given.
        force: replace what profkit wrote to `out` before.
        say: told what happens.

    Returns:
        The directory, the report, and the program's exit code.

    Raises:
        InputError: there is no such program, or it imported no torch.
        OutputError: `out` cannot be written, or holds something.
    """
    from .scripts.tracing import trace_program

    check_target(order.target)
    name = order.target.stem
    if name in (FIGURES, TENSORBOARD):  # which lie beside the run
        name = f"{name}-run"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    directory = out if out is not None else Path("runs", f"{name}-{stamp}")
    create_directory(directory, force=force)
    write_set(directory, (name,))
    try:
        code = trace_program(order, directory / name, say)
    except InputError:
        discard_set(directory)
        raise
    found = report(directory)
    write_report(directory, found)
    return directory, found, code


def check(
    order: CheckOrder,
    out: Path | None = None,
    *,
    command: str | None = None,
    force: bool = False,
    show: Show = lambda what, share: None,
) -> GateFindings:
    """Hold a program against limits: those of a budget, or another version of itself.

    Args:
        order: what to check.
        out: directory to write `check.md`, `junit.xml` and `check.json` to; none unless given.
        command: with which to check the same again, for the report.
        force: replace those files if they are there; nothing else there is touched.
        show: told about the progress.

    Raises:
        InputError: there is no such program or revision, or it never trained.
        OutputError: `out` cannot be written, or holds such a file.
    """
    from .verify.gate import run_check

    if out is not None:
        check_free(out, force=force)
    check_target(order.target)
    if order.base is not None:
        check_target(order.base)
    found = run_check(order, show)
    if out is not None:
        write_check(out, found, command)
    return found


def tune(
    program: str | os.PathLike[str] | Target,
    *arguments: str | os.PathLike[str],
    budget_s: float = 120.0,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    show: Show = lambda what, share: None,
) -> TuneFindings:
    """Try fixes on a program, in copies of its directory, and measure what they give.

    Args:
        program: path of a script, or what `profkit tune` makes of its own arguments.
        arguments: of the script, as on its command line.
        budget_s: for all of it, in seconds.
        out: directory for `tune.md` and `tune.json`; `runs/tune-NAME` unless given. A tuning that
            was killed is gone on with.
        force: begin anew, and replace an earlier result.
        show: told about the progress.

    Raises:
        InputError: there is no such program, it never trained, or the budget is too small.
        OutputError: `out` holds a finished result, or cannot be written.
    """
    from .tuning import tune_directory, tune_into

    words = tuple(os.fspath(one) for one in arguments)
    if not isinstance(program, Target):
        target = Target("script", os.fspath(program), words)
    else:
        target = replace(program, arguments=(*program.arguments, *words))
    check_target(target)
    directory = tune_directory(target) if out is None else Path(out)
    return tune_into(target, budget_s, directory, force=force, show=show)


def render_tuning(found: TuneFindings, form: str = "md") -> str:
    """What tuning found as text: `md` or `json`.

    Raises:
        InputError: another form.
    """
    from .render import tuning

    renderers = {"md": tuning.render_tuning_markdown, "json": tuning.render_tuning_json}
    return _chosen(form, renderers)(found)


def render_report(found: Report, form: str = "md") -> str:
    """A report as text: `md` or `json`.

    Raises:
        InputError: another form.
    """
    from .render.json_report import render_json
    from .render.markdown import render_markdown

    renderers = {"md": render_markdown, "json": render_json}
    return _chosen(form, renderers)(found)


def render_comparison(found: RunsComparison, form: str = "md") -> str:
    """A comparison as text: `md`, `json` or `terminal` (without colours).

    Raises:
        InputError: another form.
    """
    from .render import comparison

    renderers = {
        "md": comparison.render_markdown,
        "json": comparison.render_json,
        "terminal": comparison.render_terminal,
    }
    return _chosen(form, renderers)(found)


def render_predictions(found: Predictions, form: str = "md") -> str:
    """Predictions as text: `md` or `json`.

    Raises:
        InputError: another form.
    """
    from .render import prediction

    renderers = {"md": prediction.render_markdown, "json": prediction.render_json}
    return _chosen(form, renderers)(found)


def _chosen(form: str, renderers: Mapping[str, Callable[[T], str]]) -> Callable[[T], str]:
    """The renderer of a form; raises InputError for another one."""
    if form not in renderers:
        raise InputError(f"unknown format {form!r}: use one of {', '.join(renderers)}")
    return renderers[form]


def describe_machine(run: RunFindings) -> dict[str, str]:
    """Hardware and versions of a run in words, for the head of a report of one's own."""
    from .render.wording import hardware_line, versions_line

    environment = run.manifest.environment
    return {
        "hardware": hardware_line(environment, run.manifest.device),
        "versions": versions_line(environment),
    }
