"""Which process of a launch this one is, as the launcher's environment tells it."""

import hashlib
import platform
from collections.abc import Mapping

from ..schema.run import RankFacts


def read_rank(environment: Mapping[str, str]) -> RankFacts | None:
    """The rank that torchrun and its like gave to this process; None for a process alone.

    The launch is told by what all its ranks share, on every machine: nobody is asked, and no
    rank waits for another.
    """
    rank, world_size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if rank is None or world_size is None or not 0 <= rank < world_size:
        return None
    shared = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    text = "\n".join(environment.get(name, "") for name in shared)
    return RankFacts(
        rank=rank,
        world_size=world_size,
        launch=digest(text),
        restart=_number(environment, "TORCHELASTIC_RESTART_COUNT") or 0,
    )


def machine_digest() -> str:
    """The same for every process of this machine, and not its name."""
    return digest(platform.node())


def digest(text: str) -> str:
    """A short fingerprint."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
