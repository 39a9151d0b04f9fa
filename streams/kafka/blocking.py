"""Clients without an event loop (kafka-python): a producer and a reader of the journal, for commands and threads."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from streams.access.refusal import require_access
from streams.access.security import client_options
from streams.settings import Settings
from streams.topics import FRAME_BYTES


def open_producer(settings: Settings) -> KafkaProducer:
    """Return a producer that waits for every replica; the caller closes it."""
    require_access(settings)
    return KafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=False,  # not every broker supports it; events have ids by which duplicates are recognised
        linger_ms=5,
    )


def open_consumer(settings: Settings, **options: Any) -> Any:
    """Return a consumer without a group whose limits fit any step of the journal; the caller closes it.

    `options` are those of kafka-python, for who reads in another way.
    """
    require_access(settings)
    fitting = {"max_partition_fetch_bytes": settings.step_bytes_max + FRAME_BYTES}
    return KafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **fitting | options,
    )
