import os
import threading

import pytest

from profkit.probe.heartbeat import Heartbeat


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
