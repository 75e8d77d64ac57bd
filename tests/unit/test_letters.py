"""Letters beside ranked things."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analyze.letters import letter_display


@pytest.mark.parametrize(
    ("count", "differing", "letters"),
    [
        (3, [], ("a", "a", "a")),
        (3, [(0, 1), (0, 2), (1, 2)], ("a", "b", "c")),
        (3, [(0, 2)], ("a", "ab", "b")),
        (3, [(0, 1), (0, 2)], ("a", "b", "b")),
        (4, [(0, 2), (0, 3), (1, 3)], ("a", "ab", "bc", "c")),
        # Not in the order of the values: a sure thing between two that are not.
        (3, [(0, 1), (1, 2)], ("a", "b", "a")),
        (1, [], ("a",)),
        (0, [], ()),
    ],
)
def test_letters_of_known_cases(
    count: int, differing: list[tuple[int, int]], letters: tuple[str, ...]
) -> None:
    assert letter_display(count, differing) == letters


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 8))
    pairs = list(combinations(range(count), 2))
    return count, [pair for pair in pairs if draw(st.booleans())]


@given(graphs())
def test_two_share_a_letter_exactly_if_they_are_not_shown_to_differ(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, differing = graph
    letters = letter_display(count, differing)
    for pair in combinations(range(count), 2):
        shares = bool(set(letters[pair[0]]) & set(letters[pair[1]]))
        assert shares is (pair not in differing)
    assert all(letters)


def test_past_the_alphabet_letters_are_numbers() -> None:
    count = 54
    letters = letter_display(count, combinations(range(count), 2))
    assert letters[0] == "a"
    assert letters[51] == "Z"
    assert letters[53] == "(54)"
    assert len(set(letters)) == count
