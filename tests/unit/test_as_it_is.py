"""The program as it is, before any fix is tried. No process is started."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import make_steps
from profkit.errors import InputError
from profkit.schema.fix import FixFacts
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage
from profkit.verify import as_it_is
from profkit.verify.as_it_is import AsItIs
from profkit.verify.instance import LateError


class MadeUp:
    """An instance that hangs when it is warm, or after its first block, or never gets warm."""

    hangs_after = 0
    is_started = False

    def __init__(self, launch: Any) -> None:
        self.blocks = 0
        self.facts = SimpleNamespace(
            step_ns=10_000_000,
            loader=LoaderFacts("DataLoader", 4, 0, None),
            fixes=FixFacts({}, (1,), (1.0,), "train.py:3"),
        )

    def start(self) -> None:
        self.is_started = True

    def wait_until_warm(self, deadline: float) -> Any:
        assert self.is_started
        if self.hangs_after < 0:
            raise LateError
        return self.facts

    def run_block(self, steps: int, deadline: float) -> Any:
        if self.blocks == self.hangs_after:
            raise LateError
        self.blocks += 1
        return make_steps({Stage.FORWARD: 1000}, steps), 0


def begin(monkeypatch: pytest.MonkeyPatch, hangs_after: int) -> AsItIs:
    monkeypatch.setattr(as_it_is, "Instance", MadeUp)
    monkeypatch.setattr(as_it_is, "end_all", lambda instances: None)
    monkeypatch.setattr(MadeUp, "hangs_after", hangs_after)
    starts: Any = SimpleNamespace(launch=lambda *order: None)
    return AsItIs(starts, time.monotonic() + 60)


def test_a_hang_after_the_warm_up_is_told_from_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for hangs_after, trained in ((0, 12), (1, 22)):
        with pytest.raises(InputError, match=f"trained {trained} steps, then not 10 more") as seen:
            begin(monkeypatch, hangs_after)
        assert "it hangs" in str(seen.value)
    with pytest.raises(InputError, match="had not trained 12 steps"):
        begin(monkeypatch, -1)
    assert begin(monkeypatch, 9).blocks.steps == 18
