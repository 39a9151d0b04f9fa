"""What reads together ends together."""

from __future__ import annotations

import asyncio

import pytest

from streams.together import all_of


async def test_an_error_is_raised_when_the_others_have_ended() -> None:
    """The first one; nothing is left running that still has a connection."""
    ended = []

    async def fails(number: int) -> int:
        raise ValueError(number)

    async def takes_longer() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        ended.append("longer")
        return 3

    with pytest.raises(ValueError, match="1"):
        await all_of([takes_longer(), fails(1), fails(2)])
    assert ended == ["longer"]
    assert await all_of([takes_longer(), takes_longer()]) == [3, 3]
