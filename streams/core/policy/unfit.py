"""What a new catalogue or policy may not hold, though a recorded one may: values that no fleet can mean.

A journal may hold texts that were accepted before one of these was looked for; they go on to decide.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from streams.core.policy.catalog import Catalog
from streams.core.policy.difference import values

#: Between these is every number that means something, and no sum or product of them overflows or vanishes.
_LEAST: Final = 1e-9
_MOST: Final = 1e12
#: The router's unit of time.
_TIME_LEAST_S: Final = 0.001
#: A key whose value, or whose values by class, are seconds.
_SECONDS: Final = re.compile(r"\w+_s(\.\w+)?")
#: Controls, marks that turn the reading direction, halves of a UTF-16 pair, line and paragraph separators.
_ACTING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def unfit_values(document: Struct) -> Iterator[str]:
    """Return what is wrong with single values of a catalogue or policy: key and sentence."""
    for key, value in values(document).items():
        if any(unicodedata.category(char) in _ACTING for char in key):
            yield f"{key}: a name holds a control character."
        for one in value if isinstance(value, list | tuple) else (value,):
            problem = _unfit(one, is_time=_SECONDS.fullmatch(key.partition(".")[2]) is not None)
            if problem is not None:
                yield f"{key}: {one!r} {problem}"


def _unfit(value: Any, *, is_time: bool) -> str | None:
    match value:
        case str() if any(unicodedata.category(char) in _ACTING for char in value):
            return "holds a control character."
        case float() if not math.isfinite(value):
            return "cannot be used: a number is finite."
        case int() | float() if abs(value) > _MOST:
            return f"cannot be used: nothing here is more than {_MOST:g}."
        case int() | float() if is_time and 0 < value < _TIME_LEAST_S:
            return "cannot be used: the router counts in milliseconds, so 0.001 is the shortest time."
        case int() | float() if 0 < abs(value) < _LEAST:
            return f"cannot be used: write 0, or at least {_LEAST:g}."
        case _:
            return None


def unfit_models(catalog: Catalog) -> Iterator[str]:
    """Return what is wrong with rows of a catalogue: key and sentence."""
    first: dict[str, tuple[str, str]] = {}
    for model in catalog.model:
        where = f"model[{model.id}]"
        if model.output_tokens_max > model.context_window:
            yield (
                f"{where}.output_tokens_max: {model.output_tokens_max:,} is more than context_window, "
                f"{model.context_window:,}, which holds input and answer."
            )
        provider, of = first.setdefault(model.product, (model.provider, model.id))
        if provider != model.provider:
            yield (
                f"{where}.product: {model.product} is of {provider} in model[{of}], and of {model.provider} here; "
                "a product, whose quota is counted, has one provider."
            )
