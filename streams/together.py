"""Several things at a time, and one end for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

_Result = TypeVar("_Result")


async def all_of(works: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Wait for all of them, also where one fails, and then raise the first error.

    What reads from a broker is so at its end before the broker's connections are closed, and leaves none of its own.
    """
    results = await asyncio.gather(*works, return_exceptions=True)
    found: list[_Result] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
