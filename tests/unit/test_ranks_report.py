"""What a report says about the ranks of a launch."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from conftest import make_manifest
from launches import gather, make_launch, write_launch
from profkit import api
from profkit.diagnose.stragglers import judge_ranks
from profkit.errors import InputError, RunError
from profkit.render.ranks import rank_sentences, rank_table
from profkit.render.terminal import print_report
from profkit.schema.run import RankFacts
from profkit.schema.stage import Stage
from profkit.store.names import STEPS, SUMMARY
from profkit.store.run_directory import write_manifest

SLOW = {5: {Stage.DATALOADER: 1.5}}


def test_the_straggler_and_the_lowest_rank_are_shown_as_runs(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(8, SLOW))
    found = api.report(tmp_path)
    assert [run.manifest.name for run in found.runs] == ["rank 0 of made up", "rank 5 of made up"]
    assert found.comparison is None
    text = api.render_report(found)
    assert "rank 5 is the straggler: its data wait is 50 % longer than the other ranks'" in text
    assert "of the time lost to unequal ranks." in text
    assert "| 5, slow |" in text
    assert "took turns" not in text
    out = io.StringIO()
    print_report(found, Console(file=out, width=120))
    assert "rank 5 is the straggler" in out.getvalue()
    api.write_report(tmp_path, found)


def test_the_lowest_rank_that_can_be_read_stands_for_the_first(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(4))
    shutil.rmtree(tmp_path / "rank-0")
    (tmp_path / "rank-1" / STEPS).write_bytes(b"\x00" * 5000)  # its summary is whole
    found = api.report(tmp_path)
    assert [run.manifest.name for run in found.runs] == ["rank 2 of made up"]
    assert found.ranks is not None
    assert found.ranks.missing == (0,)
    assert [one.rank for one in found.ranks.ranks] == [1, 2, 3]
    assert any("rank 1 cannot be shown by itself" in gap for gap in found.ranks.gaps)
    for rank in (2, 3):
        (tmp_path / f"rank-{rank}" / STEPS).write_bytes(b"\x00" * 5000)
    with pytest.raises(RunError, match="no rank's run can be read"):
        api.report(tmp_path)


def test_one_launch_at_a_time_and_runs_beside_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_launch(tmp_path / name, make_launch(2))
    with pytest.raises(InputError, match="one at a time"):
        api.report(tmp_path / "a", tmp_path / "b")
    found = api.report(tmp_path / "a" / "rank-1", tmp_path / "b")
    assert [run.manifest.name for run in found.runs] == ["made up", "rank 0 of made up"]
    assert api.report(tmp_path / "a" / "rank-1").ranks is None


def test_json_holds_every_rank_and_null_where_there_is_no_launch(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(20, SLOW))
    content = json.loads(api.render_report(api.report(tmp_path), "json"))
    assert content["schema"] == 3
    ranks = content["ranks"]
    assert set(ranks) == {
        "world_size",
        "missing",
        "unreadable",
        "died",
        "waits_known",
        "across",
        "replay",
        "stragglers",
        "recovered_share",
        "sentences",
        "ranks",
        "gaps",
    }
    assert [one["rank"] for one in ranks["ranks"]] == list(range(20))
    assert ranks["ranks"][0]["stages"]["transfer"] is None
    (slow,) = ranks["stragglers"]
    assert (slow["rank"], slow["stage"]) == (5, "dataloader")
    low, high = slow["recovered_share_interval"]
    assert low <= slow["recovered_share"] <= high
    assert ranks["across"]["own_ns"]["lowest"] < ranks["across"]["own_ns"]["highest"]
    alone = json.loads(api.render_report(api.report(tmp_path / "rank-0"), "json"))
    assert alone["ranks"] is None


def test_a_thousand_ranks_take_a_few_rows() -> None:
    found = judge_ranks(gather(make_launch(300, SLOW, steps=24), ended={200: None}))
    table = rank_table(found)
    first = [row[0] for row in table.rows]
    assert len(first) < 20
    assert {"0", "5, slow", "200", "lowest", "median", "highest"} <= set(first)
    assert "of 300" in table.title
    small = rank_table(judge_ranks(gather(make_launch(16))))
    assert [row[0] for row in small.rows][:16] == [str(rank) for rank in range(16)]
    assert all(len(row) == len(table.head) == len(table.numbers) for row in table.rows)


def test_stages_that_no_rank_has_take_no_column_and_a_missing_one_is_no_zero() -> None:
    tables = make_launch(2)
    marked = tables[1].marked.copy()
    work = tables[1].stage_ns.copy()
    marked[:, 0], work[:, 5], work[:, 0] = False, work[:, 5] + work[:, 0], 0
    tables[1] = replace(tables[1], marked=marked, stage_ns=work)
    table = rank_table(judge_ranks(gather(tables)))
    assert "transfer" not in table.head
    assert table.rows[1][table.head.index("data wait")] == "–"


def test_the_dead_and_the_missing_are_named_in_a_sentence() -> None:
    ended = {3: None, 4: "stopped by ValueError", 6: None, 7: None, 8: None}
    found = judge_ranks(gather(make_launch(20), ended=ended, world=30))
    said = rank_sentences(found)
    assert "ranks 3, 6 to 8 died: no end was recorded" in said
    assert "rank 4 ended unlike the others: stopped by ValueError" in said
    assert "ranks 20 to 29 left no data" in said
    assert "no rank stands out over 60 common steps" in said


def test_a_slow_rank_that_is_hidden_is_not_said_to_cost_what_it_does_not() -> None:
    found = judge_ranks(gather(make_launch(256, {77: {Stage.FORWARD: 1.1}}, noise=0.05)))
    (said, *_) = rank_sentences(found)
    assert said.startswith("rank 77 is slow: its forward is ")
    assert "since other ranks are late as well" in said


def test_ranks_that_are_slow_together_are_told_what_they_cost_together() -> None:
    slow = {rank: {Stage.FORWARD: 1.4} for rank in range(4, 14)}
    said = rank_sentences(judge_ranks(gather(make_launch(64, slow))))
    assert any(text.startswith("ranks 4 to 13 are slow together: without that") for text in said)
    assert any(text.startswith("likewise slow: ranks") for text in said)
    assert len(said) < 12


def test_a_stage_that_others_do_not_have_is_told_in_ms() -> None:
    tables = make_launch(4, {0: {Stage.OTHER: 6}})
    without = []
    for steps in tables:
        work = steps.stage_ns.copy()
        work[:, 5] = 0 if steps is not tables[0] else work[:, 5]
        work[:, 1] += steps.step_ns - work.sum(axis=1)  # the others spend it in transfer
        without.append(replace(steps, stage_ns=work))
    (said, *_) = rank_sentences(judge_ranks(gather(without)))
    assert "its other is 1." in said or "its other is 0." in said
    assert "ms longer than the other ranks'" in said


def test_endings_from_outside_bring_no_escapes(tmp_path: Path) -> None:
    evil = "a|b\x1b[31m<script>\n# heading"
    write_launch(tmp_path, make_launch(3))
    for rank in range(3):
        manifest = make_manifest(
            evil, ended=evil if rank == 1 else "completed", rank=RankFacts(rank, 3, "one")
        )
        write_manifest(tmp_path / f"rank-{rank}", manifest)
    (tmp_path / "rank-2" / SUMMARY).write_bytes(b"\x00")
    text = api.render_report(api.report(tmp_path))
    assert "rank 1 ended unlike the others" in text
    assert "\x1b" not in text
    assert "\n# heading" not in text
    assert "<script>" not in text.replace("\\<script", "")
