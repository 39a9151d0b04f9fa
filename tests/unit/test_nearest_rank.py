"""A percentile by nearest rank is the least value that so many of 100 values do not exceed, without rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest

from streams.estimate.nearest_rank import nearest_rank


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 19, 20, 21, 99, 100, 101, 250, 1_000])
def test_every_percentile_of_every_count_is_as_defined(count: int) -> None:
    """The definition, value by value, in fractions; percentile 0 is the least."""
    values = range(1, count + 1)
    for percent in range(101):
        wanted = next(value for value in values if Fraction(value, count) >= Fraction(percent, 100))
        assert nearest_rank(values, percent) == wanted, percent


def test_no_rank_is_moved_by_the_roundings_of_shares() -> None:
    """0.07 * 100 is more than 7 in floats: of a hundred values each percentile is its own."""
    assert [nearest_rank(range(1, 101), percent) for percent in (7, 14, 28, 55, 56)] == [7, 14, 28, 55, 56]


def test_of_no_values_there_is_none() -> None:
    """The caller says what that means."""
    with pytest.raises(IndexError):
        nearest_rank([], 50)
