"""Finds MNIST: a directory given, the cache, a download, or else digits drawn from a seed.

Directories that are given are only read. What has to be unpacked or drawn goes to the cache,
file by file, each whole or not at all, so that processes that do it at once do no harm.
"""

import atexit
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from ..errors import DataError
from . import drawn_digits, idx

DATA_VARIABLE = "PROFKIT_DATA"
CACHE_VARIABLE = "PROFKIT_CACHE"
DOWNLOAD_PATIENCE_S = 10
TRAIN_SAMPLES, TEST_SAMPLES = 60_000, 10_000
RAW = Path("MNIST", "raw")
"""Where torchvision looks for the files, below its root."""
_DRAWN_SEED = 0
"""Of the drawn digits: the data is one thing, whatever seed a training has."""


@dataclass(frozen=True, slots=True)
class IdxFile:
    """One of MNIST's four files: its shape, and the md5 of its unpacked content."""

    name: str
    shape: tuple[int, ...]
    md5: str


IDX_FILES = (
    IdxFile("train-images-idx3-ubyte", (TRAIN_SAMPLES, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    IdxFile("train-labels-idx1-ubyte", (TRAIN_SAMPLES,), "a25bea736e30d166cdddb491f175f624"),
    IdxFile("t10k-images-idx3-ubyte", (TEST_SAMPLES, 28, 28), "2646ac647ad5339dbf082846283269ea"),
    IdxFile("t10k-labels-idx1-ubyte", (TEST_SAMPLES,), "27ae3e4e09519cfbb04c329615203637"),
)


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Where the data lies, and what it is.

    Attributes:
        name: `MNIST` or `drawn digits`.
        root: for torchvision's MNIST class: holds `MNIST/raw`, all four files unpacked.
        origin: how it was found, in words without a path.
        train_samples, test_samples: images.
        notes: why what comes earlier in the order did not do.
    """

    name: str
    root: Path
    origin: str
    train_samples: int = TRAIN_SAMPLES
    test_samples: int = TEST_SAMPLES
    notes: tuple[str, ...] = ()


def locate(
    data_dir: Path | None = None,
    *,
    allow_download: bool = True,
    cache_dir: Path | None = None,
    announce: Callable[[str], None] = lambda what: None,
) -> DataFiles:
    """Find MNIST, or draw digits in its place.

    Args:
        data_dir: directory with the four IDX files, raw or .gz, flat or in `MNIST/raw`; None
            looks at PROFKIT_DATA, then into the cache, then for a download.
        allow_download: whether to try one.
        cache_dir: None for PROFKIT_CACHE, else the user's cache directory.
        announce: told what takes a while.

    Raises:
        DataError: a directory that was given is none, lacks a file, or holds one with a wrong
            magic number, size or md5.
    """
    given, origin = data_dir, "--data-dir"
    if given is None and os.environ.get(DATA_VARIABLE):
        given, origin = Path(os.environ[DATA_VARIABLE]).expanduser(), DATA_VARIABLE
    cache, notes = _writable(cache_dir if cache_dir is not None else cache_path())
    if given is not None:
        return DataFiles("MNIST", _adopt(given, cache), origin, notes=notes)
    if _is_intact(cache / RAW):
        return DataFiles("MNIST", cache, "the cache", notes=notes)
    if allow_download:
        announce("downloading MNIST")
        failure = _download(cache)
        if failure is None:
            return DataFiles("MNIST", cache, "a download", notes=notes)
        notes += (f"MNIST could not be downloaded ({failure}): digits were drawn instead",)
    else:
        notes += ("MNIST was not at hand, and no download was allowed: digits were drawn instead",)
    announce("drawing digits")
    return DataFiles("drawn digits", _drawn(cache), "drawn by profkit, seed 0", notes=notes)


def cache_path() -> Path:
    """The cache directory: PROFKIT_CACHE, else where this system keeps caches."""
    named = os.environ.get(CACHE_VARIABLE)
    return (
        Path(named).expanduser()
        if named
        else platformdirs.user_cache_path("profkit", appauthor=False)
    )


def _writable(cache: Path) -> tuple[Path, tuple[str, ...]]:
    """The cache, or a directory that is gone at the end of the process, and why."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache, ()
    except OSError as error:
        temporary = tempfile.mkdtemp(prefix="profkit-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        note = f"the cache cannot be written ({error.strerror}): set {CACHE_VARIABLE}"
        return Path(temporary), (note,)


def _adopt(given: Path, cache: Path) -> Path:
    """A root for torchvision with the content of a directory that was given."""
    if not given.is_dir():
        what = "is a file" if given.exists() else "does not exist"
        raise DataError(f"{given} {what}: give a directory with MNIST's four IDX files")
    found = [_find(given, file) for file in IDX_FILES]
    contents = [_read(path, file) for path, file in zip(found, IDX_FILES, strict=True)]
    for raw in (given / RAW, given if given.parts[-2:] == RAW.parts else None):
        # torchvision does not unpack: an archive without the .gz in its name will not do in place.
        if raw is not None and all(
            path == raw / file.name and path.stat().st_size == len(content)
            for path, file, content in zip(found, IDX_FILES, contents, strict=True)
        ):
            return raw.parent.parent
    if not _is_intact(cache / RAW):
        _store(cache, {RAW / f.name: data for f, data in zip(IDX_FILES, contents, strict=True)})
    return cache


def _find(given: Path, file: IdxFile) -> Path:
    for place in (given, given / RAW, given / "raw"):
        for name in (file.name, f"{file.name}.gz"):
            if (place / name).is_file():
                return place / name
    raise DataError(
        f"{given} lacks {file.name} (raw or .gz, there or in {RAW}): give a directory with "
        "MNIST's four IDX files"
    )


def _read(path: Path, file: IdxFile) -> bytes:
    """The unpacked content of a file, checked."""
    content = idx.read_bytes(path)
    idx.decode(content, str(path), dtype="uint8", shape=file.shape)
    found = _md5(content)
    if found != file.md5:
        raise DataError(
            f"{path}: expected MNIST with md5 {file.md5} when unpacked, found {found}: replace "
            "it by an intact copy"
        )
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _is_intact(raw: Path, sums: dict[str, str] | None = None) -> bool:
    """Whether all four files are there, with the right content."""
    expected = sums if sums is not None else {file.name: file.md5 for file in IDX_FILES}
    try:
        return all(_md5((raw / name).read_bytes()) == md5 for name, md5 in expected.items())
    except OSError:
        return False


def _store(root: Path, contents: dict[Path, bytes]) -> None:
    """Write files below `root`, in this order, each whole or not at all."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A folder of this process's own: another one may be writing the same files right now.
        with tempfile.TemporaryDirectory(prefix=".half-made-", dir=root) as own:
            for number, (name, content) in enumerate(contents.items()):
                partial = Path(own, str(number))
                partial.write_bytes(content)
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                partial.replace(root / name)
    except OSError as error:
        raise DataError(
            f"cannot write {root}: {error.strerror or error}; choose another path, by setting "
            f"{CACHE_VARIABLE}"
        ) from error


def _download(cache: Path) -> str | None:
    """Let torchvision fetch MNIST into the cache; why it could not, else None."""
    # In a process of its own: a name server that does not answer cannot be interrupted here.
    code = "import sys; from profkit.workloads.mnist import download; download(sys.argv[1])"
    # The child must find this very profkit, also where only sys.path leads to it.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(part for part in paths if part)
    with tempfile.TemporaryDirectory(prefix="profkit-") as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, scratch],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=DOWNLOAD_PATIENCE_S,
                env={**os.environ, "PYTHONPATH": path},
            )
        except subprocess.TimeoutExpired:
            return f"not within {DOWNLOAD_PATIENCE_S} s"
        except OSError as error:
            return str(error)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return reason.replace(scratch, "the download")[:200]
        try:
            contents = {
                file.name: _read(Path(scratch) / RAW / file.name, file) for file in IDX_FILES
            }
        except DataError as error:
            # Notes go into reports, which name no path of this machine.
            return str(error).replace(scratch, "the download")
    _store(cache, {RAW / name: content for name, content in contents.items()})
    return None


def _drawn(cache: Path) -> Path:
    """A root for torchvision with drawn digits, made on first use."""
    root = cache / f"drawn-{drawn_digits.VERSION}-{_DRAWN_SEED}"
    sums_path = root / "md5.json"
    try:
        sums = msgspec.json.decode(sums_path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        sums = {}
    if set(sums) == {file.name for file in IDX_FILES} and _is_intact(root / RAW, sums):
        return root
    train = drawn_digits.draw(TRAIN_SAMPLES, _DRAWN_SEED, "train")
    test = drawn_digits.draw(TEST_SAMPLES, _DRAWN_SEED, "test")
    names = [file.name for file in IDX_FILES]
    contents = dict(zip(names, map(idx.encode, (*train, *test)), strict=True))
    sums = {name: _md5(data) for name, data in contents.items()}
    files = {RAW / name: data for name, data in contents.items()}
    # Last: without the sums, what lies there counts as half made.
    files[Path(sums_path.name)] = msgspec.json.encode(sums)
    _store(root, files)
    return root
