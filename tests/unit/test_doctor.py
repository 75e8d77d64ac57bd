import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from profkit.cli.doctor import doctor
from profkit.probe import capabilities as probes
from profkit.probe.capabilities import Capability, examine
from profkit.workloads import capabilities as workloads
from profkit.workloads import mnist_files
from profkit.workloads.capabilities import capabilities


def run() -> str:
    result = CliRunner().invoke(doctor)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def replace_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, probes.Check], None]:
    """All checks of the probes but one are quick and work."""

    def replace(name: str, check: probes.Check) -> None:
        assert name in probes.PROBE_CHECKS
        quick = {each: working(each) for each in probes.PROBE_CHECKS}
        quick[name] = check
        monkeypatch.setattr(workloads, "PROBE_CHECKS", quick)
        monkeypatch.setattr(workloads, "_torchvision", working("torchvision"))

    return replace


def working(name: str) -> probes.Check:
    return lambda: Capability(name, "works", "1.0")


def test_the_doctor_gives_a_line_for_everything_and_advice_for_what_is_absent() -> None:
    lines = run().splitlines()
    found = capabilities()
    assert [each.name for each in found if not any(each.name in line for line in lines)] == []
    assert sum("to do: " in line for line in lines) == sum(bool(each.advice) for each in found)
    names = [each.name for each in found]
    assert names.index("torchvision") == names.index("torch") + 1
    assert "MNIST" in names


def test_absent_things_say_what_to_do_about_it() -> None:
    assert [each for each in capabilities() if each.state == "absent" and not each.advice] == []


def test_missing_rights_are_a_line_with_advice(
    replace_check: Callable[[str, probes.Check], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_check("py-spy (stacks)", probes._stacks)
    monkeypatch.setattr(probes, "probe_ptrace", lambda: "py-spy may not read this process: be root")
    lines = [line.strip() for line in run().splitlines()]
    assert "absent    py-spy (stacks)" in "\n".join(lines)
    assert any(line.endswith("py-spy may not read this process") for line in lines)
    assert "to do: be root" in lines


def test_a_check_that_fails_is_a_line(
    replace_check: Callable[[str, probes.Check], None],
) -> None:
    def fail() -> Capability:
        raise RuntimeError("first line\nsecond line")

    replace_check("GPU", fail)
    output = run()
    assert "RuntimeError: first line second line" in output
    assert output.count("absent    ") == 1 + output.count("absent    MNIST")


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("works", "works"),
        ("repaired: its extension does not load", "repaired"),
        ("missing: pip install torchvision", "absent"),
        ("broken: no such file", "absent"),
    ],
)
def test_torchvisions_state_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, told: str, state: str
) -> None:
    torchvision = type("torchvision", (), {"__version__": "0.1"})
    monkeypatch.setitem(__import__("sys").modules, "torchvision", torchvision)
    monkeypatch.setattr("profkit.workloads.torchvision_repair.torchvision_state", lambda: told)
    found = workloads._torchvision()
    assert found.state == state
    if state == "absent":
        assert found.advice


def test_real_digits_are_looked_for_where_the_variable_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    monkeypatch.setenv("PROFKIT_DATA", str(given))
    monkeypatch.setenv("PROFKIT_CACHE", str(cache))
    found = workloads._data()
    assert (found.state, found.advice) == (
        "absent",
        "give a directory with MNIST's four IDX files",
    )
    assert found.detail.startswith("PROFKIT_DATA lacks train-images-idx3-ubyte")
    assert str(tmp_path) not in repr(found)
    (given / "train-images-idx3-ubyte").write_bytes(b"not digits")
    assert workloads._data().state == "absent"
    assert not cache.exists()


def test_without_the_variable_the_cache_is_looked_at_and_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PROFKIT_DATA", raising=False)
    monkeypatch.setenv("PROFKIT_CACHE", str(tmp_path))
    found = workloads._data()
    assert found.state == "absent"
    assert "PROFKIT_DATA" in (found.advice or "")
    assert list(tmp_path.iterdir()) == []
    raw = tmp_path / mnist_files.RAW
    raw.mkdir(parents=True)
    for file in mnist_files.IDX_FILES:
        (raw / file.name).touch()
    assert workloads._data().detail == "in the cache"


def test_more_threads_than_cores_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr(probes, "usable_cores", lambda: 2)
    found = probes._threads()
    assert (found.state, found.detail) == ("absent", "8 intra-op threads on 2 usable cores")
    assert "OMP_NUM_THREADS=2" in (found.advice or "")
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert probes._threads().state == "works"


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFKIT_CACHE", "/dev/null/cache")
    assert workloads._cache().state == "absent"


def test_a_missing_plugin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_is_installed", lambda package: package == "tensorboard")
    assert probes._tensorboard().advice == "pip install torch-tb-profiler"


def test_outcomes_keep_the_order_of_the_checks() -> None:
    found = examine({name: working(name) for name in ("b", "a")})
    assert [each.name for each in found] == ["b", "a"]
    assert json.dumps([each.state for each in found]) == '["works", "works"]'
