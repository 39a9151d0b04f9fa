"""Sentences of refusals: the field, what it takes and what was found; short and safe to print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.event_fields import CHOICES
from schemas.vocabulary import ID_PATTERN, REF_PATTERN, TIME_PATTERN, YEAR_MAX, YEAR_MIN

#: Most characters of input that a refusal repeats.
ECHO_CHARS_MAX: Final = 80
#: A usage up to so many percent is a percentage; providers go a little over their limit.
PERCENT_MAX: Final = 105


class RefusedError(Exception):
    """A record is no event of the contract; `read_event` returns the message as an `Unreadable`."""


#: What a pattern asks for, in words.
_FORMS: Final[Mapping[str, str]] = {
    ID_PATTERN: "1 to 128 letters, digits or . _ : -",
    REF_PATTERN: "a URI reference (letters, digits, - . _ ~ : / ? # [ ] @ ! $ & ' ( ) * + , ; = and %XX)",
    TIME_PATTERN: "a time like 2026-11-21T10:00:00.000Z (RFC 3339, in UTC, with Z)",
}


def explain(message: str, fields: dict[str, Any]) -> str:
    """Return a sentence for an error of msgspec, whose own message may repeat any amount of input."""
    if " - at " not in message:
        message += " - at `$`"
    problem, _, path = message.rpartition(" - at ")
    names = re.findall(r"[a-z_]+|\d+", path.rpartition("$")[2])
    missing = re.fullmatch(r"Object missing required field `(\w+)`", problem)
    if missing is not None:
        return f"field {'.'.join([*names, missing[1]])}: required, and missing."
    field = "value" if not names else f"field {'.'.join(names)}"
    if path.startswith("`key` in"):
        field = f"a key of {field}"
    allowed = next((CHOICES[name] for name in reversed(names) if name in CHOICES), ())
    if problem.startswith("Invalid"):
        wanted = f"one of {', '.join(map(str, allowed))}"
    else:
        wanted = problem.partition(", got")[0].removeprefix("Expected ").replace("`", "").replace(" | null", "")
        pattern = re.search(r"matching regex '(.*)'", wanted)
        if pattern is not None:
            wanted = _FORMS[pattern[1].replace("\\\\", "\\")]
    found = _at(fields, names)
    if names == ["utilisation"] and isinstance(found, int | float) and found > 1:
        return f"field utilisation: {describe(found)} is no share, which goes from 0 to 1{_percent(found)}."
    if path.startswith("`key` in") and isinstance(found, dict):
        # Without a closed list a key is too long, or empty.
        found = next(key for key in found if key not in allowed) if allowed else max(found, key=len)
    elif path.endswith("[...]`"):
        return f"{field}: expected every value to be {wanted}."
    return f"{field}: expected {wanted}, found {describe(found)}."


def _percent(utilisation: float) -> str:
    """Return the share that was probably meant by a percentage."""
    return f"; for {utilisation:g} % send {utilisation / 100:g}" if utilisation <= PERCENT_MAX else ""


def no_moment(text: str) -> str:
    """Return what is wrong with a text of a time's form that is no time of an accepted year."""
    if text.isascii() and not YEAR_MIN <= int(text[:4]) <= YEAR_MAX:
        return f"{quote(text)} is of the year {text[:4]}; years from {YEAR_MIN} to {YEAR_MAX} are accepted."
    return f"{quote(text)} has the form of a time, but there is no such moment."


def _at(fields: dict[str, Any], names: list[str]) -> object:
    found: Any = fields
    for name in names:
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def describe(found: object) -> str:
    """Describe a value in a few words; a long text is cut."""
    if isinstance(found, dict):
        return "an object"
    if isinstance(found, list):
        return f"an array of {len(found)}"
    if isinstance(found, str):
        return quote(found)
    return json.dumps(found)


def quote(text: str, chars_max: int = ECHO_CHARS_MAX) -> str:
    """Quote input, safe for a terminal and a log: ASCII only, and short."""
    literal = ascii(text[:chars_max])
    inner = literal[1:-1] + text[chars_max:][:1]  # one more, so that a cut shows
    return literal[0] + clip(inner, chars_max) + literal[0]


def clip(text: str, chars_max: int = ECHO_CHARS_MAX) -> str:
    """Cut a text to a length; three dots show the cut."""
    return text if len(text) <= chars_max else text[: chars_max - 3] + "..."
