"""Where a partition ends is what the broker says, however long it takes to say it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.kafka.client import end_of

WHERE = TopicPartition("dead", 3)


class SlowConsumer:
    """A consumer whose broker answers the n-th fetch; before that it knows no end."""

    def __init__(self, answers_at: int | None, end: int = 0) -> None:
        self.fetches, self._answers_at, self._end = 0, answers_at, end

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        """Wait for an answer, in vain."""
        del partitions, timeout_ms
        self.fetches += 1
        return {}

    def highwater(self, partition: TopicPartition) -> int | None:
        """The end, once a fetch was answered."""
        assert partition == WHERE
        return None if self._answers_at is None or self.fetches < self._answers_at else self._end


async def test_a_late_answer_counts() -> None:
    """The first two waits end without one."""
    consumer: Any = SlowConsumer(answers_at=3, end=17)
    assert await end_of(consumer, WHERE, stall_s_max=60) == 17
    assert consumer.fetches == 3


async def test_the_end_of_an_empty_partition_is_an_answer() -> None:
    """Nought is known, not unknown."""
    consumer: Any = SlowConsumer(answers_at=1, end=0)
    assert await end_of(consumer, WHERE, stall_s_max=60) == 0


async def test_no_answer_is_said() -> None:
    """Rather an error than an end that is too low."""
    silent: Any = SlowConsumer(answers_at=None)
    with pytest.raises(TimeoutError, match=r"dead\[3\]"):
        await end_of(silent, WHERE, stall_s_max=0)
