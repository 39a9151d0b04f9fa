"""Times as they are accepted and written: by the calendar, with four digits of a year."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

import pytest

from schemas.vocabulary import LAST_MS, MOMENT_PATTERN, from_millis, to_millis

IS_MOMENT: Final = re.compile(MOMENT_PATTERN)


@pytest.mark.rule("amend.35")
def test_the_days_that_are_accepted_are_those_of_the_calendar() -> None:
    """Every day around the turns of months, of every year that has four digits."""
    for year in range(10_000):
        for month in range(14):
            for day in (0, 1, 28, 29, 30, 31, 32):
                text = f"{year:04d}-{month:02d}-{day:02d}"
                assert bool(IS_MOMENT.match(f"{text}T00:00:00Z")) == _is_accepted(year, month, day), text


def _is_accepted(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return year >= 1970


@pytest.mark.rule("amend.35")
@pytest.mark.parametrize(
    ("at_ms", "want"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000Z", id="the first that is accepted"),
        pytest.param(LAST_MS, "9999-12-31T23:59:59.999Z", id="the last that is accepted"),
        pytest.param(LAST_MS + 31_536_000_000, "9999-12-31T23:59:59.999Z", id="the last and a year"),
        pytest.param(-61_318_648_800_000, "0026-11-21T10:00:00.000Z", id="of a journal that took any year"),
        pytest.param(-(10**18), "0001-01-01T00:00:00.000Z", id="before the calendar"),
    ],
)
def test_a_time_is_written_with_four_digits_whatever_it_is(at_ms: int, want: str) -> None:
    """Postgres takes no other, and a sum of a late deadline and a pause raises nothing."""
    assert from_millis(at_ms) == want


def test_a_written_time_is_read_the_same() -> None:
    """At both ends, and around a leap day."""
    leap_day = to_millis("2000-02-29T00:00:00Z")
    for at_ms in (0, 1, LAST_MS - 1, LAST_MS, leap_day - 1, leap_day + timedelta(days=1) // timedelta(milliseconds=1)):
        assert to_millis(from_millis(at_ms)) == at_ms
