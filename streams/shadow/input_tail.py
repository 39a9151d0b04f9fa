"""The input records of one partition, read beside the journal: a step's inputs were there before the step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.decision import Step
from schemas.input import Input
from schemas.vocabulary import INPUT_TOPICS
from streams.errors import SlotwiseError
from streams.replay.inputs import InputReader
from streams.sinks.ports import RetryableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import ConsumerRecord

    from streams.kafka.client import Broker
    from streams.topic_names import Names

#: An input whose step is in the journal is there at once; a broker that does not give it for so long is in trouble.
WAIT_S_MAX: Final = 20.0


class InputsGone(SlotwiseError):
    """Retention removed inputs before the shadow read them; the message says what to do."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic}[{partition}]@{offset} is gone, and this shadow has not read it: it was stopped for longer than "
            "the topics keep records. Give `slotwise shadow stop`, and start it again: it begins where the journal is "
            "then."
        )


class InputTail:
    """Reads each input topic of a partition forward, as far as steps ask for it."""

    def __init__(
        self, broker: Broker, names: Names, partition: int, positions: Sequence[int], home: Callable[[bytes], int]
    ) -> None:
        """`positions` are the last inputs handled before the first step that will be asked for, by topic; -1: none.

        `home` gives the partition of a key.
        """
        self._reader = InputReader(partition, home)
        self._broker = broker
        self._names = names
        self._partition = partition
        self._next = [position + 1 for position in positions]
        self._found: list[dict[int, ConsumerRecord[bytes, bytes]]] = [{} for _ in INPUT_TOPICS]
        self._runs: AsyncGenerator[tuple[tuple[str, int], list[ConsumerRecord[bytes, bytes]]], None] | None = None

    async def close(self) -> None:
        """Close the connection; it is opened again when more is asked for."""
        runs, self._runs = self._runs, None
        if runs is not None:
            await runs.aclose()

    async def of(self, step: Step) -> list[Input]:
        """Return the inputs of the next step.

        Raises:
            InputsGone: retention has removed one of them.
            RetryableError: the broker does not give them.
        """
        for item in step.inputs:
            while item.offset >= self._next[item.topic]:
                await self._read(item.topic)
            if item.offset not in self._found[item.topic]:
                raise InputsGone(self._names.inputs[item.topic], self._partition, item.offset)
        inputs = self._reader.inputs_of(step, self._found)
        for item in step.inputs:
            del self._found[item.topic][item.offset]
        return inputs

    async def _read(self, wanted: int) -> None:
        topics = self._names.inputs
        if self._runs is None:
            self._runs = self._broker.tails({(topic, self._partition): self._next[n] for n, topic in enumerate(topics)})
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                (topic, _), records = await anext(self._runs)
        except BaseException as error:
            # The generator ended with its wait.
            self._runs = None
            if isinstance(error, OffsetOutOfRangeError):
                raise InputsGone(topics[wanted], self._partition, self._next[wanted]) from None
            if isinstance(error, (KafkaError, OSError, TimeoutError, StopAsyncIteration)):
                raise RetryableError(f"the inputs of partition {self._partition} cannot be read ({error!r})") from error
            raise
        place = topics.index(topic)
        for record in records:
            self._found[place][record.offset] = record
        self._next[place] = records[-1].offset + 1
