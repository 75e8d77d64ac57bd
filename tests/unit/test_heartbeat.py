import os
import threading
from collections.abc import Iterator
from threading import Event

import pytest

from profkit.probe.heartbeat import Heartbeat

SOON_S = 0.001
LIMIT_S = 30.0


class Beats:
    """Counts what a heartbeat does, and in which threads."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[int] = set()
        self._came = Event()

    def __call__(self) -> None:
        self.count += 1
        self.threads.add(threading.get_ident())
        self._came.set()

    def comes(self, times: int = 3) -> bool:
        """Whether so many more come."""
        for _ in range(times):
            self._came.clear()
            if not self._came.wait(LIMIT_S):
                return False
        return True


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def heartbeat(beats: Beats) -> Iterator[Heartbeat]:
    made = Heartbeat(beats, SOON_S)
    made.start()
    yield made
    made.stop()


def test_it_beats_in_a_thread_of_its_own_until_it_is_stopped(
    heartbeat: Heartbeat, beats: Beats
) -> None:
    assert beats.comes()
    heartbeat.stop()
    seen = beats.count
    assert not beats._came.clear()
    assert not beats._came.wait(20 * SOON_S)
    assert beats.count == seen
    assert len(beats.threads) == 1
    assert threading.get_ident() not in beats.threads
    heartbeat.stop()  # once more does nothing


def test_a_program_that_joins_all_threads_is_not_held_up(
    heartbeat: Heartbeat, beats: Beats
) -> None:
    assert beats.comes()
    assert not [one for one in threading.enumerate() if one.ident in beats.threads]


def test_stopping_waits_for_an_act_that_goes_on() -> None:
    begun, may_end, ended = Event(), Event(), Event()

    def act() -> None:
        begun.set()
        may_end.wait(LIMIT_S)
        ended.set()

    heartbeat = Heartbeat(act, SOON_S)
    heartbeat.start()
    assert begun.wait(LIMIT_S)
    threading.Timer(0.05, may_end.set).start()
    heartbeat.stop()
    assert ended.is_set()


def test_an_act_may_stop_it() -> None:
    stopped = Event()

    def act() -> None:
        heartbeat.stop()
        stopped.set()

    heartbeat = Heartbeat(act, SOON_S)
    heartbeat.start()
    assert stopped.wait(LIMIT_S)


# Python warns of other threads of the test's process: those of libraries, and the test's own.
ignores_threads = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@ignores_threads
def test_it_stands_still_around_a_fork_and_is_gone_in_the_child(
    heartbeat: Heartbeat, beats: Beats
) -> None:
    assert beats.comes()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        beats._came.clear()
        os.write(write, b"beats" if beats._came.wait(20 * SOON_S) else b"still")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 5) == b"still"
    os.close(read)
    os.close(write)
    assert beats.comes()


@ignores_threads
def test_threads_that_fork_at_once_leave_one_heartbeat(heartbeat: Heartbeat, beats: Beats) -> None:
    def fork() -> None:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert beats.comes()
    heartbeat.stop()
    seen = beats.count
    beats._came.clear()
    assert not beats._came.wait(20 * SOON_S)
    assert beats.count == seen


def test_without_a_thread_to_be_had_nothing_breaks(
    beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("profkit.probe.heartbeat.start_new_thread", refuse)
    heartbeat = Heartbeat(beats, SOON_S)
    heartbeat.start()
    heartbeat.stop()
    assert beats.count == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_by_who_holds_what_the_act_waits_for_goes_on() -> None:
    lock, entered = threading.RLock(), threading.Event()

    def act() -> None:
        entered.set()
        with lock:
            pass

    heartbeat = Heartbeat(act, 0.01)
    with lock:
        heartbeat.start()
        entered.wait()
        child = os.fork()
        if child == 0:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    heartbeat.stop()
