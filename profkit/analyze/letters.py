"""Letters beside ranked things: two share one unless they are shown to differ."""

from collections.abc import Iterable

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter_display(count: int, differing: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """The letters of each of `count` things.

    Args:
        count: of things, in the order in which letters are given out.
        differing: pairs of numbers, from 0, of those that are shown to differ.

    Returns:
        One or more letters each; two things share one exactly if they are not in `differing`.
        Past `Z` a letter is a number in parentheses.
    Source: insert-absorb algorithm: Piepho, An Algorithm for a Letter-Based Representation of
        All-Pairwise Comparisons (2004).
    """
    columns = [frozenset(range(count))]
    for one, other in differing:
        split: list[frozenset[int]] = []
        for column in columns:
            if one in column and other in column:
                split += (column - {one}, column - {other})
            else:
                split.append(column)
        columns = _absorb(split)
    columns.sort(key=sorted)
    return tuple(
        "".join(_letter(number) for number, column in enumerate(columns) if thing in column)
        for thing in range(count)
    )


def _absorb(columns: list[frozenset[int]]) -> list[frozenset[int]]:
    """The columns that no other one holds: the rest says nothing new."""
    distinct = list(dict.fromkeys(columns))
    return [one for one in distinct if not any(one < other for other in distinct)]


def _letter(number: int) -> str:
    return _ALPHABET[number] if number < len(_ALPHABET) else f"({number + 1})"
