"""Derives the steps of a journal again, from what stands in it and in the input topics; no plug-in is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import astuple

from schemas.codec import read_event
from schemas.input import Input
from schemas.steps import decode_step, encode_step
from schemas.trace import trace_of
from schemas.vocabulary import INPUT_TOPICS

if TYPE_CHECKING:
    from streams.core.router import Router
    from streams.partition.ports import Raw


def rederive(router: Router, journal: Iterable[bytes], records: Sequence[Mapping[int, Raw]]) -> list[bytes]:
    """The accepted steps as this router takes them; `records` are those of each input topic, by offset."""
    again = []
    for value in journal:
        step = decode_step(value)
        if step.seq != router.seq:
            continue
        advice = dict(step.advice)
        inputs = []
        for place, (topic, offset, now_ms) in enumerate(map(astuple, step.inputs)):
            raw = records[topic][offset]
            headers = raw.headers or ()
            event = read_event(INPUT_TOPICS[topic], raw.key, raw.value, headers)
            inputs.append(Input(topic, offset, now_ms, event, *trace_of(headers), advice.get(place)))
        again.append(encode_step(router.handle(inputs)))
        router.apply(step)
    return again
