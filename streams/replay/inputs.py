"""The inputs of a recorded step as the router took them, from the step and the records of the input topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from schemas.decision import Step
from schemas.input import NOT_DECIDED, Input, Unreadable
from schemas.vocabulary import INPUT_TOPICS
from streams.errors import SlotwiseError
from streams.partition.ports import Raw
from streams.partition.received import RecordReader
from streams.replay.recorded_step import RecordedStep

#: Records of one partition: by topic, in the order of `INPUT_TOPICS`, and offset.
InputRecords: TypeAlias = Sequence[Mapping[int, Raw]]


class InputMissing(SlotwiseError):
    """A step handled an input that the records do not hold; retention may have taken it."""

    def __init__(self, seq: int, topic: int, offset: int) -> None:
        super().__init__(f"Step {seq} handled {INPUT_TOPICS[topic]}@{offset}, which the records do not hold.")
        self.seq, self.topic, self.offset = seq, topic, offset


class InputReader:
    """Reads the inputs of one partition's steps, by the code by which its worker read them."""

    def __init__(self, partition: int, home: Callable[[bytes], int]) -> None:
        """`home` gives the partition of a key, as the worker's did."""
        self._read = RecordReader(partition, home).read

    def inputs_of(self, step: RecordedStep | Step, records: InputRecords) -> list[Input]:
        """Return the inputs of a step in the order in which it handled them: events, times, trace context and advice.

        Raises:
            InputMissing: one of them is not among the records.
        """
        read = self._read
        advice = dict(step.advice)
        # The router did not see these: the worker gave them to it as unreadable, after a failure.
        undecided = {
            (one.topic, one.offset): Unreadable(one.reason)
            for one in step.rejected
            if one.reason.startswith(NOT_DECIDED)
        }
        inputs = []
        for place, accepted in enumerate(step.inputs):
            topic, offset = accepted.topic, accepted.offset
            record = records[topic].get(offset)
            if record is None:
                raise InputMissing(step.seq, topic, offset)
            one = read(topic, record)
            inputs.append(
                Input(
                    topic,
                    offset,
                    accepted.now_ms,
                    undecided.get((topic, offset), one.event) if undecided else one.event,
                    one.traceparent,
                    one.tracestate,
                    advice.get(place) if advice else None,
                    one.event_id,
                )
            )
        return inputs
