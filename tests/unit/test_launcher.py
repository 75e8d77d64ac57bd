import platform

import pytest

from profkit.probe.launcher import machine_digest, read_rank
from profkit.schema.run import RankFacts

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "2",
}


def test_a_process_alone_has_no_rank() -> None:
    assert read_rank({}) is None
    assert read_rank({"MASTER_ADDR": "localhost", "LOCAL_RANK": "0"}) is None


def test_torchruns_words_make_a_rank() -> None:
    rank = read_rank(TORCHRUN)
    assert rank is not None
    assert (rank.rank, rank.world_size, rank.restart) == (1, 4, 2)
    assert read_rank({"RANK": "0", "WORLD_SIZE": "1"}) == RankFacts(
        0,
        1,
        read_rank({"RANK": "0", "WORLD_SIZE": "2"}).launch,  # type: ignore[union-attr]
    )


def test_ranks_of_a_launch_agree_and_those_of_another_differ() -> None:
    launches = []
    for changes in ({}, {"RANK": "3"}, {"TORCHELASTIC_RESTART_COUNT": "3"}, {"MASTER_PORT": "2"}):
        rank = read_rank({**TORCHRUN, **changes})
        assert rank is not None
        launches.append(rank.launch)
    same, of_another_rank, restarted, other = launches
    assert same == of_another_rank == restarted != other


@pytest.mark.parametrize(
    "changes",
    [
        {"RANK": "4"},
        {"RANK": "-1"},
        {"RANK": ""},
        {"RANK": "one"},
        {"RANK": "\u00b2"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "4.0"},
        {"RANK": " 1"},
    ],
)
def test_words_that_make_no_rank_are_none(changes: dict[str, str]) -> None:
    assert read_rank({**TORCHRUN, **changes}) is None


def test_an_odd_restart_count_is_the_first_start() -> None:
    rank = read_rank({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "many"})
    assert rank is not None
    assert rank.restart == 0


def test_a_machines_digest_is_not_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine_digest()
    assert here == machine_digest()
    assert platform.node() not in here
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert machine_digest() != here
