"""Gauges of what this worker's partitions are behind: inputs, outputs and tables; computed when the metrics are read.

Partitions that this worker no longer has are gone from them: another worker reports those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schemas.vocabulary import INPUT_TOPICS, Millis
from streams import metrics
from streams.partition.worker import PartitionWorker


def show(workers: Sequence[PartitionWorker], tables: Callable[[int], int | None], now_ms: Millis) -> None:
    """Set the gauges; `tables` gives the journal offset at which a partition's tables go on, None: at the first."""
    for gauge in metrics.OF_LAG:
        gauge.clear()
    for worker in workers:
        partition = str(worker.partition)
        for index, topic in enumerate(INPUT_TOPICS):
            behind = worker.input_lag(index, now_ms)
            metrics.INPUT_LAG.labels(topic, partition).set(behind.records)
            metrics.INPUT_LAG_SECONDS.labels(topic, partition).set(behind.seconds)
        behind = worker.publish_lag(now_ms)
        metrics.PUBLISH_LAG.labels(partition).set(behind.records)
        metrics.PUBLISH_LAG_SECONDS.labels(partition).set(behind.seconds)
        projected = tables(worker.partition) or 0
        metrics.TABLES_LAG.labels(partition).set(max(0, worker.journal_position.offset - projected))
