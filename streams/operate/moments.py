"""Times as people type them: an ISO time with its zone, `3h` from now or ago, `today 09:00` by this machine's zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.vocabulary import Millis
from streams.errors import MISTAKE, SlotwiseError

#: How they may be written, for messages.
FORMS: Final = "2026-11-21T15:00:00Z, 3h or 'tomorrow 09:00'"
#: The same, of times that are over.
FORMS_AGO: Final = "24h, 2026-11-21T15:00:00Z or 'today 09:00'"
_SPAN: Final = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?", re.ASCII)
_TIMER: Final = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5}(?:\.\d{1,3})?)s)?", re.ASCII)
_CLOCK: Final = re.compile(r"(today|tomorrow) ([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


class MomentError(SlotwiseError):
    """A text is no time; the message says how to write one."""

    exit_code = MISTAKE


def ago(text: str, now_ms: Millis) -> datetime:
    """Return the time that a span before now, a day with a clock time or an ISO time with its zone names.

    Raises:
        MomentError: it is none of them.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    try:
        found = from_now(text, now_ms)
        if found is None:
            found = datetime.fromisoformat(text)
        elif _SPAN.fullmatch(text):
            found = now - (found - now)
    except (ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise MomentError(f"{text!r} is no time before now: write it as {FORMS_AGO}.")
    return found


def seconds(text: str) -> float:
    """Return the length of a span such as 5m, 90s or 1h30m.

    Raises:
        MomentError: it is none, or has no length.
    """
    span = _TIMER.fullmatch(text)
    hours, minutes, rest = (float(part or 0) for part in span.groups()) if span is not None else (0.0, 0.0, 0.0)
    found = 3600 * hours + 60 * minutes + rest
    if not found:
        raise MomentError(f"{text!r} is no span of time: write it as 5m, 90s or 1h30m.")
    return found


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
