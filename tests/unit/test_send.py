"""Events from lines: one odd line is reported by its number, and the lines around it are sent."""

from __future__ import annotations

import codecs
import io
import json
from typing import Any

import pytest

from schemas.codec import VALUE_BYTES_MAX
from streams.commands.send import _bounded
from streams.operate import send as module
from streams.operate.send import Sent
from streams.settings import Settings

AT = b'"at":"2026-11-21T10:00:00Z"'


class Producer:
    """A broker that confirms everything."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def send(self, *, value: bytes, **_record: Any) -> Producer:
        """Note a record."""
        self.values.append(value)
        return self

    def get(self, timeout: float) -> None:
        """Confirm it."""

    def close(self, timeout: float) -> None:
        """Do nothing."""


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Producer:
    """Give the broker that takes what is sent."""
    producer = Producer()
    monkeypatch.setattr(module, "open_producer", lambda _settings: producer)
    return producer


def send(*lines: bytes, stamp: bool = False) -> Sent:
    """Send tasks."""
    return module.send(Settings(), "task", lines, stamp=stamp)


def task(name: str, more: bytes = b"", at: bytes = AT) -> bytes:
    """Give a line."""
    fields = b",".join(part for part in (b'"task_id":"%s"' % name.encode(), b'"pool":"main"', at, more) if part)
    return b"{%s}\n" % fields


ODD = {
    "a title in Latin-1": (b'"title":"caf\xe9"', "is not UTF-8"),
    "nested 2,000 deep": (b'"title":' + b"[" * 2000 + b"]" * 2000, "nested deeper than 32"),
    "a key that stands twice": (b'"task_id":"y"', "field 'task_id': stands twice"),
    "half a pair of UTF-16": (rb'"title":"\ud83d"', "is not JSON"),
    "a NUL": (rb'"title":"\u0000"', "the character NUL"),
    "a number without an end": (b'"ev":' + b"9" * 5000, "numbers must be finite"),
}


@pytest.mark.parametrize("stamp", [False, True], ids=["as it is", "with --now"])
@pytest.mark.parametrize(("more", "want"), ODD.values(), ids=ODD.keys())
def test_an_odd_line_is_reported_by_its_number_and_the_rest_is_sent(
    broker: Producer, more: bytes, want: str, stamp: bool
) -> None:
    """Whether `at` is filled in or not."""
    at = b"" if stamp else AT
    sent = send(task("a", at=at), task("b", more, at=at), task("c", at=at), stamp=stamp)
    assert (sent.lines, sent.sent, sent.refused, len(broker.values)) == (3, 2, 1, 2)
    (refusal,) = sent.refusals
    assert refusal.line == 2
    assert want in refusal.reason


def test_a_line_in_brackets_only_is_refused_like_any_other(broker: Producer) -> None:
    """Also where it is nested so deep that a parser gives up."""
    sent = send(b"[" * 200_000, task("a"))
    assert (sent.sent, [refusal.line for refusal in sent.refusals]) == (1, [1])
    assert broker.values == [task("a").strip()]


def test_a_byte_order_mark_before_the_first_line_is_passed_over(broker: Producer) -> None:
    """Editors write one; anywhere else it is a mistake in the line."""
    sent = send(codecs.BOM_UTF8 + task("a"), codecs.BOM_UTF8 + task("b"), task("c"))
    assert [refusal.line for refusal in sent.refusals] == [2]
    assert broker.values == [task("a").strip(), task("c").strip()]
    assert send(codecs.BOM_UTF8 + b"\r\n").lines == 0


def test_a_line_that_is_stamped_stays_as_it_was_written(broker: Producer) -> None:
    """Numbers, order and unknown fields are the producer's; only `at` is new, and an empty object gets none."""
    send(b'  { "task_id" : "a","pool":"main","mine":[1.10, 1e2] }\r\n', stamp=True)
    (value,) = broker.values
    assert value.startswith(b'{"at":"20')
    assert value.endswith(b', "task_id" : "a","pool":"main","mine":[1.10, 1e2] }')
    assert list(json.loads(value)) == ["at", "task_id", "pool", "mine"]
    send(task("b"), stamp=True)
    assert broker.values[1] == task("b").strip()
    assert "task_id" in send(b"{}", stamp=True).refusals[0].reason


def test_a_line_without_an_end_does_not_fill_the_memory(broker: Producer) -> None:
    """What is longer than any event is refused by its length, and the next line is read."""
    lines = [*_bounded(io.BytesIO(task("a") + b"x" * (3 * VALUE_BYTES_MAX) + b"\n" + task("b") + task("c").strip()))]
    sent = send(*lines)
    assert broker.values == [task(name).strip() for name in "abc"]
    (refusal,) = sent.refusals
    assert refusal.line == 2
    assert f"at most {VALUE_BYTES_MAX} are read" in refusal.reason


DEAD = (
    b'{"task":{"task_id":"a","pool":"main",%s,"priority":7},'
    b'"story":[[1795255200000,3,"accepted"],[1795255260000,4,"failed"]]}'
)


@pytest.mark.rule("amend.33")
def test_a_task_that_was_given_up_is_sent_again_as_its_dead_letter(broker: Producer) -> None:
    """With the time of now, so that it is done again and not ignored as a duplicate; or with one from after its end."""
    assert send(DEAD % AT, stamp=True).sent == 1
    later = b'"at":"2026-11-21T10:01:00.001Z"'
    assert send(DEAD % later).sent == 1
    again, edited = map(json.loads, broker.values)
    assert again["at"] > edited["at"] == "2026-11-21T10:01:00.001Z"
    assert [{**one, "at": ""} for one in (again, edited)] == [
        {"task_id": "a", "pool": "main", "at": "", "priority": 7}
    ] * 2


def test_a_dead_letter_with_its_old_time_is_refused_and_not_sent_for_nothing(broker: Producer) -> None:
    """The router would ignore it; the sentence says what to do."""
    sent = send(DEAD % AT, DEAD % b'"at":"2026-11-21T10:01:00.000Z"', b'{"task":{},"story":3}')
    assert (sent.sent, broker.values) == (0, [])
    assert [one.reason for one in sent.refusals[:2]] == [
        "field at: from before the task was given up, so it would be ignored; send it with --now."
    ] * 2
