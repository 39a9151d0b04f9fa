"""All lanes of a worker: which partitions it has, in which generation of its group, and what happens when they move.

A lane is reused when its partition stays, since only the journal's tail is then to be read; it decides nothing between
two generations. A delivery of another generation, or without a lane, is dropped: it comes again, or is fetched.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from streams import metrics
from streams.partition.ports import Raw
from streams.partition.worker import Lane, LaneError

_log = logging.getLogger(__name__)

NO_GENERATION: Final = -1


class Lanes:
    """The partitions of one worker."""

    def __init__(
        self, open_lane: Callable[[int], Lane], failed: Callable[[BaseException], None], recovery_s_max: float
    ) -> None:
        self._open = open_lane
        self._failed = failed
        self._recovery_s_max = recovery_s_max
        self._lanes: dict[int, Lane] = {}
        self._generation = NO_GENERATION
        self._lock = asyncio.Lock()
        #: The event loop itself keeps no tasks alive.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def all(self) -> Mapping[int, Lane]:
        """Lanes by partition."""
        return self._lanes

    @property
    def generation(self) -> int:
        """The generation for which the lanes work."""
        return self._generation

    async def settle(self, generation: int, partitions: Collection[int]) -> None:
        """Have a working lane for each of these partitions, and for no other. May be called twice at once."""
        # Recovery goes on when the caller's patience ends: what it began is needed all the same.
        await asyncio.shield(self._keep(asyncio.create_task(self._settle(generation, set(partitions)))))

    def take(
        self, generation: int, partition: int, topic: int, records: Sequence[Raw], done: Callable[[], Any]
    ) -> None:
        """Hand a delivery to its lane, or drop it."""
        lane = self._lanes.get(partition)
        if generation != self._generation or lane is None or not lane.working:
            done()
            return
        lane.offer(topic, records, done)

    async def halt(self) -> None:
        """Stop deciding: the partitions are about to move."""
        async with self._lock:
            self._generation = NO_GENERATION
            await self._halt(self._lanes)

    def unjournaled_s_max(self) -> float:
        """Age of the oldest input that came and is not journaled."""
        return max((lane.health().oldest_unjournaled_s for lane in self._lanes.values()), default=0.0)

    async def _settle(self, generation: int, partitions: set[int]) -> None:
        async with self._lock:
            if generation == self._generation and partitions == self._lanes.keys():
                return
            self._generation = NO_GENERATION
            await self._halt(self._lanes)
            for partition in self._lanes.keys() - partitions:
                del self._lanes[partition]
            for partition in partitions - self._lanes.keys():
                self._lanes[partition] = self._open(partition)
            try:
                async with asyncio.timeout(self._recovery_s_max):
                    await asyncio.gather(*(lane.recover() for lane in self._lanes.values()))
            except TimeoutError:
                error = LaneError(
                    f"The partitions {sorted(partitions)} were not recovered within {self._recovery_s_max:.0f} s: "
                    "raise SLOTWISE_RECOVERY_TIMEOUT_S, or look at why the journal is slow to read."
                )
                self._failed(error)
                raise error from None
            except Exception as error:
                self._failed(error)
                raise
            # What was recovered lives long: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            for lane in self._lanes.values():
                await lane.start()
                self._keep(asyncio.create_task(self._watch(lane)))
            self._generation = generation
            metrics.PARTITIONS.set(len(self._lanes))
            _log.info("working on partitions %s (generation %d)", sorted(partitions), generation)

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _halt(self, lanes: Mapping[int, Lane]) -> None:
        for partition, result in zip(
            lanes, await asyncio.gather(*(lane.halt() for lane in lanes.values()), return_exceptions=True), strict=True
        ):
            if isinstance(result, Exception):
                # Reported by its watch already; here it only must not keep the others from stopping.
                _log.warning("partition %d had failed: %s", partition, result)

    async def _watch(self, lane: Lane) -> None:
        try:
            await lane.failed()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends a lane ends the worker
            self._failed(error)
