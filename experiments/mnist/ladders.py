"""All ladders, and how a rung is found."""

from .fastmlp_rungs import FASTMLP
from .ladder import Ladder, Rung
from .rungs import LADDER

LADDERS: tuple[Ladder, ...] = (LADDER, FASTMLP)


def rung_named(name: str) -> Rung:
    """The rung of that name, in whatever ladder.

    Raises:
        ValueError: there is none.
    """
    for ladder in LADDERS:
        for rung in ladder:
            if rung.name == name:
                return rung
    names = ", ".join(rung.name for ladder in LADDERS for rung in ladder)
    raise ValueError(f"there is no rung {name!r}; there are {names}")
