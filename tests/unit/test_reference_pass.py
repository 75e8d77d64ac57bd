"""What becomes of a pass without loader workers, and what it is told to do."""

from pathlib import Path

import pytest

from conftest import make_manifest, make_steps
from profkit.schema.fix import ALL_LOADERS, FixOrder
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage
from profkit.scripts.fix_order import OPTION, read_fixes
from profkit.scripts.reference_pass import keep_reference, reference_options
from profkit.store.names import REFERENCE
from profkit.store.records import read_run
from profkit.store.run_directory import create_directory, write_manifest
from profkit.store.streams import RunWriter


def make_pass(
    place: Path, steps: int, *, workers: int = 0, ended: str | None = "completed", warmup: int = 0
) -> tuple[Path, Path]:
    """The run directories of a pass, and of the light pass before it."""
    for name, count in (("light", 60), ("out", steps)):
        create_directory(place / name)
        loader = LoaderFacts("DataLoader", 4, workers, None)
        write_manifest(place / name, make_manifest(name, loader=loader, ended=ended))
        writer = RunWriter(place / name)
        writer.append(make_steps({Stage.FORWARD: 1000}, count, warmup=warmup))
        writer.close()
    return place / "out", place / "light"


def test_its_steps_become_the_reference_of_the_run(tmp_path: Path) -> None:
    out, light = make_pass(tmp_path, 30, warmup=10)
    facts = keep_reference(out, light)
    assert facts is not None
    assert (facts.name, facts.steps, facts.step_ns, facts.gap) == ("reference", 20, 1000, None)
    reference = read_run(light).reference
    assert reference is not None
    assert len(reference) == 30


@pytest.mark.parametrize(
    ("steps", "workers", "gap"),
    [(3, 0, "only 3 steps to time"), (30, 2, "the loader has 2 of them all the same")],
)
def test_what_is_no_reference_says_why(tmp_path: Path, steps: int, workers: int, gap: str) -> None:
    out, light = make_pass(tmp_path, steps, workers=workers)
    facts = keep_reference(out, light)
    assert facts is not None
    assert (facts.steps, facts.gap) == (0, f"pass without loader workers: {gap}")
    assert not (light / REFERENCE).exists()


def test_a_program_that_failed_at_once_has_the_last_word(tmp_path: Path) -> None:
    out, light = make_pass(tmp_path, 3, ended="stopped by ValueError")
    assert keep_reference(out, light) is None
    assert keep_reference(tmp_path / "nowhere", light) is None
    assert not (light / REFERENCE).exists()


def test_all_loaders_are_told_to_have_no_workers(tmp_path: Path) -> None:
    options = reference_options(tmp_path, 1e6, 10)
    told = read_fixes(options[options.index(OPTION) + 1])
    assert told == FixOrder({"workers": 0}, loader=ALL_LOADERS)
    longer = reference_options(tmp_path, 1e9, 10)
    counts = [int(one[one.index("--steps") + 1]) for one in (options, longer)]
    assert counts[0] > counts[1] >= 20
