import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from profkit.probe.liveness import is_alive, process_facts
from profkit.schema.run import ProcessFacts


def test_this_process_is_alive() -> None:
    assert is_alive(process_facts()) is True


def test_a_process_that_ended_is_not_even_before_its_parent_knows() -> None:
    source = (
        "from dataclasses import asdict; from profkit.probe.liveness import process_facts\n"
        "import json; print(json.dumps(asdict(process_facts())), flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as said:
        facts = ProcessFacts(**json.loads(said.readline()))
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(facts) is False
    child.wait()
    assert is_alive(facts) is False


def test_another_process_with_its_id_is_another_one() -> None:
    facts = process_facts()
    assert is_alive(replace(facts, created_s=facts.created_s - 60)) is False
    assert is_alive(replace(facts, created_s=facts.created_s + 1)) is True


def test_elsewhere_an_id_says_nothing() -> None:
    assert is_alive(replace(process_facts(), machine="0123456789abcdef")) is None


@pytest.mark.parametrize("pid", [-1, 2**31, 2**80])
def test_an_id_that_is_none_breaks_nothing(pid: int) -> None:
    assert is_alive(replace(process_facts(), pid=pid)) is not True
