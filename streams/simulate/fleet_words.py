"""Fleets as people write them: `opus=2,haiku=6`, `opus=1..4,haiku=6` for four of them, or a TOML file.

A file has a table `[slots]` of models with their counts, or the slots of a `slotwise dispatch`, whose models count.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.core.policy.document import RulebookError, parse
from streams.errors import MISTAKE, SlotwiseError
from streams.text_file import read_text_file

#: Slots of one model, and fleets that one line may mean.
SLOTS_MAX: Final = 1_000
FLEETS_MAX: Final = 100
_FORM: Final = "write it as opus=2,haiku=6, with opus=1..4 for each count from 1 to 4, or name a TOML file"
_COUNT: Final = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?", re.ASCII)


class FleetWordsError(SlotwiseError):
    """What was written is no fleet; the message says how to write one."""

    exit_code = MISTAKE


def fleets(text: str) -> list[dict[str, int]]:
    """Return the fleets that a line or a file means, as slots by model.

    Raises:
        FleetWordsError: it is no fleet, or means too many.
        TextFileError: it names a file that cannot be read.
    """
    if text.endswith(".toml"):
        return [_of_file(text)]
    models: dict[str, Sequence[int]] = {}
    for part in text.split(","):
        model, _, count = (word.strip() for word in part.partition("="))
        form = _COUNT.fullmatch(count)
        if not model or model in models or form is None:
            raise FleetWordsError(f"{part.strip()!r} is no slots of a model: {_FORM}.")
        least, most = int(form[1]), int(form[2] or form[1])
        if not least <= most <= SLOTS_MAX:
            raise FleetWordsError(f"{part.strip()!r} counts no slots: from 0 to {SLOTS_MAX}, the lower number first.")
        models[model] = range(least, most + 1)
    found = [
        {model: count for model, count in zip(models, counts, strict=True) if count}
        for counts in itertools.islice(itertools.product(*models.values()), FLEETS_MAX + 1)
    ]
    if len(found) > FLEETS_MAX:
        raise FleetWordsError(f"{text!r} means more than {FLEETS_MAX} fleets: name fewer counts.")
    if not all(found):
        raise FleetWordsError(f"{text!r} has a fleet without a slot: begin its counts with 1.")
    return found


def words(fleet: Mapping[str, int]) -> str:
    """Write a fleet as `fleets` reads it."""
    return ",".join(f"{model}={count}" for model, count in fleet.items())


def _of_file(file: str) -> dict[str, int]:
    try:
        table: dict[str, Any] = parse(read_text_file(file), file)
    except RulebookError as error:
        raise FleetWordsError(str(error)) from None
    slots = table.get("slots")
    if slots is None and isinstance(table.get("slot"), list):
        models = [one.get("model") for one in table["slot"] if isinstance(one, dict)]
        slots = Counter(models)
    if not isinstance(slots, dict) or not slots:
        raise FleetWordsError(f"{file} has no slots: give it a table [slots] with lines such as opus = 2.")
    for model, count in slots.items():
        if not isinstance(model, str) or type(count) is not int or not 0 <= count <= SLOTS_MAX:
            raise FleetWordsError(f"{file} says {model} = {count}: a model has from 0 to {SLOTS_MAX} slots.")
    found = {model: count for model, count in slots.items() if count}
    if not found:
        raise FleetWordsError(f"{file} has no slot: give a model of [slots] at least 1.")
    return found
