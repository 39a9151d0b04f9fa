"""Stopping a worker that waits: a request to halt ends every wait, every pause and every retry."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from streams.backoff import Backoff
from streams.partition.ports import JournalError, PartitionError

_log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(first_s=0.05, longest_s=5.0)

_Result = TypeVar("_Result")


class Halted(Exception):
    """The worker was asked to stop while it waited."""


class Halt:
    """The request of one worker to stop, and the waits that it ends."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._requested = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether the worker is to stop."""
        return self._requested.is_set()

    def request(self) -> None:
        """Stop: waits end with `Halted`."""
        self._requested.set()

    def clear(self) -> None:
        """Work again."""
        self._requested.clear()

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until the worker is to stop; does not raise."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._requested.wait(), seconds)

    async def unless_requested(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait for something.

        Raises:
            Halted: the worker is to stop.
        """
        waiting, halted = asyncio.ensure_future(wait), asyncio.ensure_future(self._requested.wait())
        try:
            await asyncio.wait((waiting, halted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            halted.cancel()
        if self.requested:
            raise Halted

    async def pause(self, failures: int) -> None:
        """Back off after so many failures in a row, with jitter.

        Raises:
            Halted: the worker is to stop.
        """
        await self.unless_requested(asyncio.sleep(BACKOFF.pause_s(failures, random.random())))  # noqa: S311 - jitter

    async def retry(self, what: str, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something that may be done again, until it succeeds.

        Raises:
            Halted: the worker is to stop.
            JournalError, PartitionError: a person must look; trying again does not help.
        """
        failures = 0
        while True:
            try:
                return await action()
            except (JournalError, PartitionError, Halted):
                raise
            except Exception as error:  # noqa: BLE001 - a broker that is away can fail in any way
                failures += 1
                _log.warning("partition %d: %s failed, trying again: %r", self._partition, what, error)
                await self.pause(failures)
