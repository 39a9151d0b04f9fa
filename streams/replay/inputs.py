"""The inputs of a journaled step as the router took them, from the step and the records of the input topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.codec import read_event
from schemas.decision import Step
from schemas.event_id import event_id_of
from schemas.input import Input, Misplaced
from schemas.record import Headers
from schemas.trace import trace_of
from schemas.vocabulary import INPUT_TOPICS
from streams.errors import SlotwiseError


class InputRecord(Protocol):
    """A record of an input topic, as far as the router sees it."""

    @property
    def key(self) -> bytes | None:
        """As sent."""

    @property
    def value(self) -> bytes | None:
        """As sent."""

    @property
    def headers(self) -> Headers:
        """As sent: (name, content)."""


#: The records of one partition: by topic, in the order of `INPUT_TOPICS`, and offset.
InputRecords = Sequence[Mapping[int, InputRecord]]


class InputMissing(SlotwiseError):
    """A step handled an input that the records do not hold; retention may have taken it."""

    def __init__(self, seq: int, topic: str, offset: int) -> None:
        super().__init__(f"Step {seq} handled {topic}@{offset}, which the records do not hold.")
        self.seq, self.topic, self.offset = seq, topic, offset


def inputs_of(step: Step, records: InputRecords) -> list[Input]:
    """Return the inputs of a step in the order in which it handled them: events, times, trace context and advice.

    Raises:
        InputMissing: one of them is not among the records.
    """
    advice = dict(step.advice)
    forwarded = {(one.topic, one.offset): Misplaced(one.to) for one in step.forwarded}
    inputs = []
    for place, accepted in enumerate(step.inputs):
        record = records[accepted.topic].get(accepted.offset)
        topic = INPUT_TOPICS[accepted.topic]
        if record is None:
            raise InputMissing(step.seq, topic, accepted.offset)
        headers = record.headers or ()
        inputs.append(
            Input(
                accepted.topic,
                accepted.offset,
                accepted.now_ms,
                forwarded.get((accepted.topic, accepted.offset))
                or read_event(topic, record.key, record.value, headers),
                *trace_of(headers),
                advice.get(place),
                event_id_of(topic, headers),
            )
        )
    return inputs
