"""`profkit view`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import click

from ..errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

_HOST = "127.0.0.1"
_TRACES = "*.pt.trace.json"
_START_LIMIT_S = 120.0
_END_LIMIT_S = 10.0
_POLL_S = 0.2


@click.command(epilog="Example: profkit view runs/mine")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="Port on this machine.",
)
@click.option("--browser", is_flag=True, help="Open the page in the browser, too.")
def view(directory: Path, port: int, browser: bool) -> None:
    """Show the traces below a directory in TensorBoard until Ctrl-C, on this machine only."""
    from tempfile import TemporaryFile

    count = _count_traces(directory)
    port = _free_port(port)
    address = f"http://{_HOST}:{port}/#pytorch_profiler"
    with TemporaryFile() as log, _interrupted_by_signals():
        child = _started(directory, port, log)
        try:
            _wait_until_it_answers(child, port, log)
            click.echo(address)
            click.echo(
                f"{count} {'trace' if count == 1 else 'traces'}; Ctrl-C ends it. Its charts need "
                "the web; `profkit report` does not.",
                err=True,
            )
            if browser:
                click.launch(address)
            child.wait()
            _fail(log, "TensorBoard ended by itself")
        except KeyboardInterrupt:
            # The way out that was announced, not a failure.
            click.echo("TensorBoard ended", err=True)
        finally:
            _end(child)


def _count_traces(directory: Path) -> int:
    if not directory.is_dir():
        raise InputError(f"no such directory: {directory}")
    count = sum(1 for _ in directory.rglob(_TRACES))
    if not count:
        raise RunError(
            f"no trace for TensorBoard ({_TRACES}) below {directory}: make one with `profkit trace`"
        )
    return count


def _free_port(port: int) -> int:
    import socket

    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise InputError(f"cannot use port {port}: {error.strerror}") from None
        free: int = probe.getsockname()[1]
        return free


def _started(directory: Path, port: int, log: IO[bytes]) -> Popen[bytes]:
    import subprocess
    import sys

    options = ["--logdir", str(directory.resolve()), "--host", _HOST, "--port", str(port)]
    # In a session of its own, so that a Ctrl-C reaches profkit alone, which then ends it.
    return subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *options],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _wait_until_it_answers(child: Popen[bytes], port: int, log: IO[bytes]) -> None:
    import time
    from http.client import HTTPConnection, HTTPException

    limit = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < limit:
        if child.poll() is not None:
            _fail(log, "TensorBoard did not start")
        connection = HTTPConnection(_HOST, port, timeout=_START_LIMIT_S)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except (OSError, HTTPException):
            time.sleep(_POLL_S)
        finally:
            connection.close()
    _fail(log, f"TensorBoard did not answer within {_START_LIMIT_S:.0f} s")


def _fail(log: IO[bytes], what: str) -> NoReturn:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise RunError(f"{what}: {lines[-1].strip() if lines else 'it said nothing'}")


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Turn what would kill this process into an interrupt, so that the child is ended too."""
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {number: signal.signal(number, interrupt) for number in numbers if number is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: Popen[bytes]) -> None:
    from subprocess import TimeoutExpired

    child.terminate()
    try:
        child.wait(_END_LIMIT_S)
    except TimeoutExpired:
        child.kill()
        child.wait()
