"""Saved measurements of test runs: `.profkit/NAME.json` at the root of a project."""

import re
from pathlib import Path

import msgspec

from ..errors import InputError, OutputError, RunError
from ..schema.ledger import LEDGER_SCHEMA, Ledger
from .run_directory import write_file

DIRECTORY = ".profkit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Head(msgspec.Struct):
    schema: int


def saved_path(root: Path, name: str) -> Path:
    """Where measurements of that name are.

    Raises:
        InputError: it is no name for a file.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for measurements: use at most 64 letters, digits, '.', '_' and "
            "'-', and begin with a letter or digit"
        )
    return root / DIRECTORY / f"{name}.json"


def saved_names(root: Path) -> list[str]:
    """The names there are."""
    return sorted(path.stem for path in (root / DIRECTORY).glob("*.json"))


def check_new(path: Path) -> None:
    """Make sure that nothing saved is lost.

    Raises:
        OutputError: there is such a file already.
    """
    if path.exists():
        raise OutputError(f"{path} exists already: choose another name, or delete it")


def check_replaceable(path: Path) -> None:
    """Make sure that a ledger may be written to a path.

    Raises:
        OutputError: it is a directory, or holds what is no ledger.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a directory: name a file")
    if not path.exists():
        return
    try:
        read_ledger(path)
    except RunError as error:
        raise OutputError(
            f"{path} was not written by profkit, so it is not replaced: choose another file"
        ) from error


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write what was measured, whole or not at all; NaN becomes null.

    Raises:
        OutputError: it cannot be written.
    """
    write_file(path, msgspec.json.format(msgspec.json.encode(ledger), indent=1) + b"\n")


def read_ledger(path: Path) -> Ledger:
    """What was measured; without the assertions, which only readers of the file need.

    Raises:
        RunError: it is none, is damaged, or comes from a newer profkit.
    """
    try:
        content = path.read_bytes()
        schema = msgspec.json.decode(content, type=_Head).schema
        if schema > LEDGER_SCHEMA:
            raise RunError(
                f"{path} is schema {schema}; this profkit reads up to {LEDGER_SCHEMA}: upgrade "
                "profkit"
            )
        raw = msgspec.json.decode(content)
        return msgspec.convert({**raw, "asserted": ()}, Ledger)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise RunError(f"{path} holds no saved measurements ({words}): save them anew") from error
