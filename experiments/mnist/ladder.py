"""A ladder: recipes of which each is declared by what it changes on an earlier one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .recipe import Recipe, changed


@dataclass(frozen=True, slots=True)
class Rung:
    """One training.

    Attributes:
        number: 0 is the first.
        name: of the change.
        on: name of the rung that it changes; None for the first.
        recipe: that rung's, with the change and its riders.
        isolated: that rung's, with the change alone.
        change: what the rung is about: new values by path.
        riders: what was changed with it, though it is another matter.
        why: what the change is for.
        published_s: what it took its author, in s; None where nobody published it.
        sources: papers or books that its technique comes from.
    """

    number: int
    name: str
    on: str | None
    recipe: Recipe
    isolated: Recipe
    change: Mapping[str, Any]
    riders: Mapping[str, Any]
    why: str
    published_s: float | None
    sources: tuple[str, ...]


@dataclass(slots=True)
class Ladder:
    """Rungs, each a step on from the one before, or from another earlier one.

    Attributes:
        name: of the command that climbs it, and of its report.
        title: of that.
        aim: accuracy on the test images that it is about, 0 to 1.
        untried: what might have been tried, and what came of it or why not, as sentences.
        rungs: at least one.
    """

    name: str
    title: str
    aim: float
    untried: tuple[str, ...] = ()
    rungs: list[Rung] = field(default_factory=list)

    def begin(
        self, name: str, recipe: Recipe, *, why: str, published_s: float | None = None
    ) -> None:
        """Declare the first rung, that changes nothing."""
        assert not self.rungs
        self.rungs.append(Rung(0, name, None, recipe, recipe, {}, {}, why, published_s, ()))

    def step(
        self,
        name: str,
        *,
        on: str | None = None,
        change: Mapping[str, Any],
        riders: Mapping[str, Any] | None = None,
        why: str,
        published_s: float | None = None,
        sources: tuple[str, ...] = (),
    ) -> None:
        """Declare the next rung, that changes the one before or the one named `on`.

        Raises:
            ValueError: a path is unknown, is both change and rider, or is changed to what it is;
                there is no rung to change.
        """
        riders = riders or {}
        both = change.keys() & riders.keys()
        if both:
            raise ValueError(f"{name}: {', '.join(sorted(both))} is both a change and a rider")
        if name in (rung.name for rung in self.rungs):
            raise ValueError(f"{name}: there is such a rung already")
        before = self.rungs[-1] if on is None else self.named(on)
        isolated = changed(before.recipe, change)
        self.rungs.append(
            Rung(
                len(self.rungs),
                name,
                before.name,
                changed(isolated, riders),
                isolated,
                change,
                riders,
                why,
                published_s,
                sources,
            )
        )

    def __iter__(self) -> Iterator[Rung]:
        return iter(self.rungs)

    def named(self, name: str) -> Rung:
        """The rung of that name.

        Raises:
            ValueError: there is none.
        """
        for rung in self.rungs:
            if name == rung.name:
                return rung
        names = ", ".join(rung.name for rung in self.rungs)
        raise ValueError(f"no rung {name}; there are {names}")
