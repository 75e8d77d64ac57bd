import gzip
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from profkit.errors import DataError
from profkit.workloads import mnist_files
from profkit.workloads.mnist_files import IDX_FILES, RAW, cache_path, locate

NAMES = [file.name for file in IDX_FILES]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROFKIT_CACHE", raising=False)


@pytest.fixture
def real(mnist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PROFKIT_DATA", raising=False)
    return mnist_dir


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROFKIT_DATA", raising=False)


def unpack(real: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for name in NAMES:
        packed = real / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else b""
        (to / name).write_bytes(content or next(real.rglob(name)).read_bytes())
    return to


def listing(place: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in place.rglob("*"))


@pytest.mark.parametrize("layout", ["as given", "flat", "torchvision", "raw itself"])
def test_every_layout_is_found_and_only_read(real: Path, layout: str, tmp_path: Path) -> None:
    given = {
        "as given": lambda: real,
        "flat": lambda: unpack(real, tmp_path / "flat"),
        "torchvision": lambda: unpack(real, tmp_path / "tv" / RAW).parent.parent,
        "raw itself": lambda: unpack(real, tmp_path / "tv" / RAW),
    }[layout]()
    before = listing(given)
    found = locate(given, cache_dir=tmp_path / "cache")
    assert (found.name, found.origin) == ("MNIST", "--data-dir")
    assert sorted(path.name for path in (found.root / RAW).iterdir()) == sorted(NAMES)
    assert listing(given) == before
    assert (tmp_path / "cache" / RAW).exists() == (layout in ("as given", "flat"))


def test_the_variable_comes_after_the_argument(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROFKIT_DATA", str(real))
    assert locate(cache_dir=tmp_path).origin == "PROFKIT_DATA"
    with pytest.raises(DataError, match="does not exist"):
        locate(tmp_path / "nowhere", cache_dir=tmp_path)
    monkeypatch.setenv("PROFKIT_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone does not exist"):
        locate(cache_dir=tmp_path)


def test_the_cache_is_used_and_a_damaged_one_is_not_trusted(real: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    locate(real, cache_dir=cache)
    assert locate(cache_dir=cache, allow_download=False).origin == "the cache"
    labels = cache / RAW / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\xff")
    assert locate(real, cache_dir=cache).name == "MNIST"
    assert locate(cache_dir=cache, allow_download=False).origin == "the cache"


def corrupt(content: bytes, how: str) -> bytes:
    if how == "magic number":
        return b"\x00\x00\x08\x02" + content[4:]
    if how == "size":
        return content[:-5]
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("how", ["magic number", "size", "md5"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_file_is_named_with_what_was_expected_and_found(
    real: Path, how: str, packed: bool, tmp_path: Path
) -> None:
    given = unpack(real, tmp_path / "flat")
    wrong = given / "t10k-labels-idx1-ubyte"
    content = corrupt(wrong.read_bytes(), how)
    wrong.unlink()
    if packed:
        wrong = wrong.with_suffix(".gz") if wrong.suffix else Path(f"{wrong}.gz")
        content = gzip.compress(content)
    wrong.write_bytes(content)
    with pytest.raises(DataError) as caught:
        locate(given, cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert str(wrong) in message
    assert "expected" in message
    assert "found" in message
    assert "\n" not in message
    assert not (tmp_path / "cache" / RAW).exists()


def test_a_truncated_archive_is_one_line(real: Path, tmp_path: Path) -> None:
    given = tmp_path / "cut"
    shutil.copytree(real, given)
    cut = given / "train-images-idx3-ubyte.gz"
    if not cut.exists():
        pytest.skip("PROFKIT_DATA holds unpacked files: there is no archive to cut")
    cut.chmod(0o644)
    given.chmod(0o755)
    cut.write_bytes(cut.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: expected an intact gzip"):
        locate(given, cache_dir=tmp_path / "cache")


def test_what_is_no_data_is_said(unset: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file is a file: give a directory"):
        locate(tmp_path / "file", cache_dir=tmp_path / "c")
    with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte \(raw or \.gz"):
        locate(tmp_path, cache_dir=tmp_path / "c")


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_files, "TRAIN_SAMPLES", 120)
    monkeypatch.setattr(mnist_files, "TEST_SAMPLES", 30)


def test_digits_are_drawn_once_and_rebuilt_when_damaged(
    unset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    found = locate(cache_dir=tmp_path, allow_download=False)
    assert (found.name, found.origin) == ("drawn digits", "drawn by profkit, seed 0")
    assert "drawn instead" in found.notes[0]
    before = listing(found.root)
    assert locate(cache_dir=tmp_path, allow_download=False).root == found.root
    assert listing(found.root) == before
    images = found.root / RAW / NAMES[0]
    whole = images.read_bytes()
    for damage in (whole[:-1], b"", None):  # cut, emptied, or killed before it was written
        images.unlink()
        if damage is not None:
            images.write_bytes(damage)
        locate(cache_dir=tmp_path, allow_download=False)
        assert images.read_bytes() == whole
    (found.root / "md5.json").write_text("{")
    assert locate(cache_dir=tmp_path, allow_download=False).root == found.root


def test_processes_that_draw_at_once_do_no_harm(
    unset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    found, failed = [], []

    def draw() -> None:
        try:
            found.append(locate(cache_dir=tmp_path, allow_download=False))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len({one.root for one in found}) == 1
    assert sorted(path.name for path in (found[0].root / RAW).iterdir()) == sorted(NAMES)


def test_two_processes_fill_one_cache(unset: None, tmp_path: Path) -> None:
    # At full size: files this long are still being written when the other process comes to them.
    code = (
        "import sys; from pathlib import Path; from profkit.workloads.mnist_files import locate\n"
        "print(locate(cache_dir=Path(sys.argv[1]), allow_download=False).name)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for output, errors in [one.communicate() for one in both]:
        assert output.strip() == "drawn digits", errors
    assert not list(tmp_path.rglob(".half-made-*"))


def test_an_archive_under_a_raw_name_is_unpacked(real: Path, tmp_path: Path) -> None:
    raw = unpack(real, tmp_path / "tv" / RAW)
    labels = raw / "t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(gzip.compress(whole))
    found = locate(tmp_path / "tv", cache_dir=tmp_path / "cache")
    assert (found.root / RAW / labels.name).read_bytes() == whole


def test_notes_name_no_path(unset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    scratch = []

    def fetch_nothing(command: list[str], **options: object) -> object:
        scratch.append(command[-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fetch_nothing)
    notes = " ".join(locate(cache_dir=tmp_path).notes)
    assert "expected a readable file" in notes
    assert Path(scratch[0]).name not in notes


def test_a_download_that_fails_or_hangs_is_given_up(
    unset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)

    def hang(*arguments: object, **options: object) -> None:
        assert options["timeout"] == mnist_files.DOWNLOAD_PATIENCE_S
        raise subprocess.TimeoutExpired("download", 10)

    monkeypatch.setattr(subprocess, "run", hang)
    found = locate(cache_dir=tmp_path)
    assert found.name == "drawn digits"
    assert "could not be downloaded (not within 10 s)" in found.notes[0]

    def fail(*arguments: object, **options: object) -> object:
        return subprocess.CompletedProcess("download", 1, "", "Traceback\nURLError: no network")

    monkeypatch.setattr(subprocess, "run", fail)
    assert "(URLError: no network)" in locate(cache_dir=tmp_path).notes[0]


def test_a_download_is_checked_and_kept(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(command: list[str], **options: object) -> object:
        unpack(real, Path(command[-1]) / RAW)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fetch)
    assert locate(cache_dir=tmp_path).origin == "a download"
    monkeypatch.undo()
    monkeypatch.delenv("PROFKIT_DATA", raising=False)
    assert locate(cache_dir=tmp_path, allow_download=False).origin == "the cache"


def test_a_cache_that_cannot_be_written_is_replaced_for_this_process(
    unset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    (tmp_path / "file").write_text("")
    found = locate(cache_dir=tmp_path / "file" / "cache", allow_download=False)
    assert found.name == "drawn digits"
    assert "the cache cannot be written" in found.notes[0]
    assert (found.root / RAW / NAMES[0]).exists()
    shutil.rmtree(found.root.parent)


def test_the_cache_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFKIT_CACHE", str(tmp_path))
    assert cache_path() == tmp_path
    monkeypatch.delenv("PROFKIT_CACHE")
    assert cache_path().name == "profkit"


def test_finding_data_does_not_load_torch() -> None:
    code = "import sys, profkit.workloads.mnist_files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
