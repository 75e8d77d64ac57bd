import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from profkit.probe import environment
from profkit.probe.environment import free_memory, read_environment, usable_cores, usable_memory
from profkit.schema.run import Environment


def test_what_is_read_survives_being_stored() -> None:
    read = read_environment()
    assert msgspec.json.decode(msgspec.json.encode(read), type=Environment) == read


def test_figures_are_possible() -> None:
    hardware = read_environment().hardware
    assert hardware.processor
    assert 1 <= hardware.usable_cores <= hardware.logical_cores
    assert 2**20 < (hardware.memory_bytes or 0) <= psutil.virtual_memory().total
    assert hardware.frequency_mhz is None or 100 < hardware.frequency_mhz < 20_000


def test_versions_name_python_and_the_probes() -> None:
    versions = read_environment().versions
    assert {"python", "profkit", "torch", "py-spy", "line_profiler"} <= versions.keys()


def test_nothing_tells_whose_machine_it_is() -> None:
    text = msgspec.json.encode(read_environment()).decode()
    private = [str(Path.home()), str(Path.cwd()), sys.prefix]
    assert [each for each in private if len(each) > 2 and each in text] == []


def test_torch_is_asked_only_where_it_is_imported() -> None:
    script = (
        "import sys\n"
        "from profkit.probe.environment import read_environment\n"
        "read = read_environment()\n"
        "assert 'torch' not in sys.modules\n"
        "assert read.intra_op_threads is None and read.hardware.gpus == ()\n"
        "class Torch:\n"
        "    get_num_threads = staticmethod(lambda: 3)\n"
        "    get_num_interop_threads = staticmethod(lambda: 5)\n"
        "sys.modules['torch'] = Torch()\n"
        "read = read_environment()\n"
        "assert (read.intra_op_threads, read.inter_op_threads) == (3, 5)\n"
        "assert read.hardware.gpus == ()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nothing_that_fails_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("broken")

    monkeypatch.setattr(environment.psutil, "cpu_freq", fail)
    monkeypatch.setattr(environment.psutil, "cpu_count", fail)
    monkeypatch.setattr(environment.psutil, "virtual_memory", fail)
    monkeypatch.setattr(environment.subprocess, "run", fail)
    monkeypatch.setattr(environment, "_processor", fail)
    monkeypatch.setattr(environment.metadata, "version", fail)
    read = read_environment()
    assert read.hardware.frequency_mhz is None
    assert read.hardware.physical_cores is None
    assert read.hardware.memory_bytes is None
    assert read.commit is None
    assert list(read.versions) == ["python"]


def control_groups(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    read = environment._text
    monkeypatch.setattr(
        environment, "_text", lambda path: lines if path.name == "cgroup" else read(path)
    )


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), ("", 8)]
)
def test_a_container_of_version_2_limits_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    control_groups(monkeypatch, "0::/outer/inner")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "outer" / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("250000", 2)])
def test_a_container_of_version_1_limits_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    control_groups(monkeypatch, "4:memory:/\n3:cpu,cpuacct:/docker/abc")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_limits_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    control_groups(monkeypatch, "0::/" if version == 2 else "4:memory:/")
    whole = usable_memory(tmp_path)
    assert whole == psutil.virtual_memory().total
    directory = tmp_path if version == 2 else tmp_path / "memory"
    directory.mkdir(exist_ok=True)
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    (directory / name).write_text("1048576\n")
    assert usable_memory(tmp_path) == 1048576
    (directory / name).write_text(f"{2**63}\n")
    assert usable_memory(tmp_path) == whole


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_container_has_left_is_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(
        environment.psutil, "virtual_memory", lambda: SimpleNamespace(available=900)
    )
    control_groups(monkeypatch, "0::/" if version == 2 else "4:memory:/")
    assert free_memory(tmp_path) == 900
    directory = tmp_path if version == 2 else tmp_path / "memory"
    directory.mkdir(exist_ok=True)
    limit, used = (
        ("memory.max", "memory.current")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    (directory / limit).write_text("1000\n")
    (directory / used).write_text("700\n")
    assert free_memory(tmp_path) == 300
    cached = "inactive_file 200" if version == 2 else "inactive_file 1\ntotal_inactive_file 200"
    (directory / "memory.stat").write_text(f"anon 500\n{cached}\nactive_file 9\n")
    assert free_memory(tmp_path) == 500
    (directory / used).write_text("1900\n")
    assert free_memory(tmp_path) == 0
    (directory / limit).write_text("max\n")
    assert free_memory(tmp_path) == 900


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def test_commit_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_environment().commit is None
    git(tmp_path, "init")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    clean = read_environment().commit
    assert clean is not None
    assert len(clean) == 12
    (tmp_path / "a").write_text("b")
    assert read_environment().commit == clean + "+changes"
