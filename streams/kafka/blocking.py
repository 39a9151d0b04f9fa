"""Clients without an event loop (kafka-python): a producer and a reader of the journal, for commands and threads."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from streams.settings import Settings
from streams.topics import FRAME_BYTES


def open_producer(settings: Settings) -> KafkaProducer:
    """Give a producer whose records count when every replica has them; whoever opens it closes it."""
    return KafkaProducer(
        bootstrap_servers=settings.broker.split(","),
        acks="all",
        enable_idempotence=False,  # not every broker knows it, and events carry ids: a repetition is recognised
        linger_ms=5,
    )


def open_consumer(settings: Settings) -> Any:
    """Give a consumer outside every group that takes any step of the journal; whoever opens it closes it."""
    return KafkaConsumer(
        bootstrap_servers=settings.broker.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=settings.step_bytes_max + FRAME_BYTES,
    )
