"""Ties the life of this process to another's: it ends when that one does, however that ends."""

import os
import signal
import threading


def end_with(pipe: int) -> None:
    """End this process, by force, as soon as nobody holds the other end of a pipe any more.

    With it end those of its group, such as loader workers, if it leads one.

    Args:
        pipe: descriptor to read from; nothing is ever written there.
    """
    threading.Thread(target=_wait, args=(pipe,), name="profkit-tied", daemon=True).start()


def _wait(pipe: int) -> None:
    try:
        os.read(pipe, 1)
    except OSError:  # the program closed it: nobody can tell any more
        return
    own = os.getpid()
    if os.getpgid(0) == own:
        os.killpg(own, signal.SIGKILL)
    os.kill(own, signal.SIGKILL)
