"""The hours of LiteLLM's `off_peak_pricing`, as hours of the catalogue: UTC, by days of the week.

It names hours for every day and hours for some days, and may read the days on another calendar than UTC. Here they are
minutes of the week in UTC first, so that a day of Shanghai that begins at 16:00 UTC comes out right.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct

_HOURS: Final = re.compile(r"\s*([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)\s*")
_DAY_MIN: Final = 24 * 60
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Hours(Struct, frozen=True):
    """A span of the day: `from_` inclusive, `to` exclusive, as 16:30; on days from 1, Monday, to 7."""

    from_: str
    to: str
    weekdays: tuple[int, ...]


def off_peak_hours(off_peak: Mapping[str, Any]) -> tuple[Hours, ...]:
    """Read the hours of a block, in the order of the day; what cannot be read is passed over, as LiteLLM does.

    Where its calendar has summer time, an hour counts only if it holds in summer and in winter.
    """
    weeks = [_week(off_peak, offset) for offset in _offsets_min(off_peak.get("weekday_timezone"))]
    days = [set.intersection(*(week[day] for week in weeks)) for day in range(len(_DAYS))]
    found: dict[tuple[int, int], list[int]] = {}
    for day, minutes in enumerate(days, 1):
        for span in _spans(minutes):
            found.setdefault(span, []).append(day)
    return tuple(Hours(_clock(start), _clock(end), tuple(found[start, end])) for start, end in sorted(found))


def _week(off_peak: Mapping[str, Any], offset: int) -> list[set[int]]:
    """Give the minutes of each day, UTC, where the calendar of the block is that many minutes ahead."""
    days: list[set[int]] = [set() for _ in _DAYS]
    windows = off_peak.get("windows")
    rules = [{"hours_utc": off_peak.get("hours_utc")}, *(windows if isinstance(windows, list) else ())]
    for rule in rules:
        if isinstance(rule, Mapping):
            named = set(_weekdays(rule.get("weekdays")))
            for minute in set(_minutes(rule.get("hours_utc"))):
                for day in range(len(_DAYS)):
                    if (day + (minute + offset) // _DAY_MIN) % len(_DAYS) in named:
                        days[day].add(minute)
    return days


def _offsets_min(zone: Any) -> set[int]:
    """Give how far a calendar is ahead of UTC, in winter and in summer; one that is not known counts as UTC."""
    try:
        calendar = ZoneInfo(zone.strip()) if isinstance(zone, str) and zone.strip() else dt.UTC
    except (ValueError, OSError, KeyError):  # no name of a zone, or no data about it on this machine
        calendar = dt.UTC
    offsets = (dt.datetime(2026, month, 1, tzinfo=calendar).utcoffset() for month in (1, 7))
    return {round(offset.total_seconds() / 60) for offset in offsets if offset is not None}


def _minutes(value: Any) -> Iterator[int]:
    """Give the minutes of the day in `16:30-00:30`, or in a list of such; equal ends mean the whole day."""
    for text in value if isinstance(value, list) else [value]:
        found = _HOURS.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            start, end = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
            yield from (minute % _DAY_MIN for minute in range(start, end if end > start else end + _DAY_MIN))


def _weekdays(value: Any) -> Iterator[int]:
    """Give days from 0, Monday: of 1 to 7 or of English names, short or long; all where nothing is said."""
    if value is None:
        yield from range(len(_DAYS))
        return
    for day in value if isinstance(value, list) else ():
        if isinstance(day, str) and len(day.strip()) >= len("mon"):
            yield from (i for i, name in enumerate(_DAYS) if name.startswith(day.strip().lower()))
        elif isinstance(day, int) and not isinstance(day, bool) and 1 <= day <= len(_DAYS):
            yield day - 1


def _spans(minutes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give the unbroken spans of a day as (first minute, first after); one may cross midnight, equal: the whole day."""
    all_of_them = set(minutes)
    if len(all_of_them) == _DAY_MIN:
        yield 0, 0
        return
    for start in (minute for minute in all_of_them if (minute - 1) % _DAY_MIN not in all_of_them):
        end = start
        while end % _DAY_MIN in all_of_them:
            end += 1
        yield start, end % _DAY_MIN


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
