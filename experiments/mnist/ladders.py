"""All ladders, and how a rung is found."""

from .beyond_rungs import BEYOND
from .fastmlp_rungs import FASTMLP
from .forty_rungs import FORTY
from .ladder import Ladder, Rung
from .minute_rungs import MINUTE
from .rungs import LADDER
from .simple_rungs import SIMPLE

LADDERS: tuple[Ladder, ...] = (LADDER, BEYOND, FASTMLP, MINUTE, FORTY, SIMPLE)


def rung_named(name: str) -> Rung:
    """The rung of that name, in whatever ladder.

    Raises:
        ValueError: there is none.
    """
    return ladder_of(name).named(name)


def ladder_of(name: str) -> Ladder:
    """The ladder that has a rung of that name.

    Raises:
        ValueError: there is none.
    """
    for ladder in LADDERS:
        if any(rung.name == name for rung in ladder):
            return ladder
    names = ", ".join(rung.name for ladder in LADDERS for rung in ladder)
    raise ValueError(f"there is no rung {name!r}; there are {names}")
