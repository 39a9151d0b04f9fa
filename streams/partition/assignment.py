"""The partitions assigned to this process, each with its worker, in one generation of the consumer group.

A partition's worker is kept while the partition stays, because then only the journal's tail has to be read; it decides
nothing between two generations. A delivery of another generation, or of a partition without a worker, is dropped: it
is delivered again, or fetched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from streams import metrics
from streams.collector import set_aside
from streams.partition.ports import PartitionError, Raw
from streams.partition.worker import PartitionWorker

_log = logging.getLogger(__name__)

NO_GENERATION: Final = -1


class Assignment:
    """The partition workers of this process."""

    def __init__(
        self,
        open_worker: Callable[[int], PartitionWorker],
        failed: Callable[[BaseException], None],
        recovery_s_max: float,
    ) -> None:
        self._open = open_worker
        self._failed = failed
        self._recovery_s_max = recovery_s_max
        self._workers: dict[int, PartitionWorker] = {}
        self._generation = NO_GENERATION
        self._lock = asyncio.Lock()
        #: The event loop itself keeps no tasks alive.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> Mapping[int, PartitionWorker]:
        """Workers by partition."""
        return self._workers

    @property
    def generation(self) -> int:
        """The generation for which the workers work."""
        return self._generation

    async def assign(self, generation: int, partitions: Collection[int]) -> None:
        """Start a worker for each of these partitions and stop all others. May be called twice at once."""
        # Recovery goes on when the caller's patience ends: what it began is needed all the same.
        await asyncio.shield(self._keep(asyncio.create_task(self._assign(generation, set(partitions)))))

    def take(
        self, generation: int, partition: int, topic: int, records: Sequence[Raw], done: Callable[[], Any]
    ) -> None:
        """Give a delivery to its partition's worker, or drop it."""
        worker = self._workers.get(partition)
        if generation != self._generation or worker is None or not worker.working:
            done()
            return
        worker.offer(topic, records, done)

    async def halt(self) -> None:
        """Stop deciding: the partitions are about to move."""
        async with self._lock:
            self._generation = NO_GENERATION
            await self._halt(self._workers)

    def unjournaled_s_max(self) -> float:
        """Age of the oldest input that came and is not journaled."""
        return max((worker.health().oldest_unjournaled_s for worker in self._workers.values()), default=0.0)

    async def _assign(self, generation: int, partitions: set[int]) -> None:
        async with self._lock:
            if generation == self._generation and partitions == self._workers.keys():
                return
            self._generation = NO_GENERATION
            await self._halt(self._workers)
            for partition in self._workers.keys() - partitions:
                del self._workers[partition]
            for partition in partitions - self._workers.keys():
                self._workers[partition] = self._open(partition)
            try:
                async with asyncio.timeout(self._recovery_s_max):
                    await asyncio.gather(*(worker.recover() for worker in self._workers.values()))
            except TimeoutError:
                error = PartitionError(
                    f"The partitions {sorted(partitions)} were not recovered within {self._recovery_s_max:.0f} s: "
                    "raise SLOTWISE_RECOVERY_TIMEOUT_S, or look at why the journal is slow to read."
                )
                self._failed(error)
                raise error from None
            except Exception as error:
                self._failed(error)
                raise
            set_aside()
            for worker in self._workers.values():
                await worker.start()
                self._keep(asyncio.create_task(self._watch(worker)))
            self._generation = generation
            metrics.PARTITIONS.set(len(self._workers))
            _log.info("working on partitions %s (generation %d)", sorted(partitions), generation)

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _halt(self, workers: Mapping[int, PartitionWorker]) -> None:
        results = await asyncio.gather(*(worker.halt() for worker in workers.values()), return_exceptions=True)
        for partition, result in zip(workers, results, strict=True):
            if isinstance(result, Exception):
                # Reported by its watch already; here it only must not keep the others from stopping.
                _log.warning("partition %d had failed: %s", partition, result)

    async def _watch(self, worker: PartitionWorker) -> None:
        try:
            await worker.failed()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends a partition's worker ends the process
            self._failed(error)
