"""Times as people type them: an ISO time with its zone, `3h` from now, `tomorrow 09:00` by this machine's zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.vocabulary import Millis

#: How they may be written, for messages.
FORMS: Final = "2026-11-21T15:00:00Z, 3h or 'tomorrow 09:00'"
_SPAN: Final = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?", re.ASCII)
_CLOCK: Final = re.compile(r"(today|tomorrow) ([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


def from_now(text: str, now_ms: Millis) -> datetime | None:
    """Return the time that a span or a day with a clock time names; None: the text is neither.

    A day and its clock time are those of this machine's zone.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    span = _SPAN.fullmatch(text)
    if span is not None and text:
        days, hours, minutes = (int(part or 0) for part in span.groups())
        return now + timedelta(days=days, hours=hours, minutes=minutes)
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return None
    day = now.astimezone().date() + timedelta(days=clock[1] == "tomorrow")
    # Without a zone it is a time of this machine's, with the daylight saving of that day.
    return datetime(day.year, day.month, day.day, int(clock[2]), int(clock[3])).astimezone()
