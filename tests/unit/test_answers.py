"""Answers that are kept for a moment: one question is asked once, and a failure is not kept."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from streams.web.answers import ANSWERS_MAX, FRESH_S, Answers


class Audit:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ask(self) -> int:
        """Answer with the number of the question."""
        self.asked += 1
        assert self.may_answer.wait(60)
        if self.failure is not None:
            raise self.failure
        return self.asked


async def test_who_asks_at_a_time_or_soon_after_gets_the_same_answer() -> None:
    """Until it is too old; another question has an answer of its own."""
    now_s, audit = [0.0], Audit()
    answers = Answers(lambda: now_s[0])
    assert await asyncio.gather(*(answers.of("a", audit.ask) for _ in range(5))) == [1] * 5
    now_s[0] = FRESH_S - 0.1
    assert await answers.of("a", audit.ask) == 1
    assert await answers.of("b", audit.ask) == 2
    now_s[0] = FRESH_S
    assert await answers.of("a", audit.ask) == 3


async def test_a_failure_is_raised_to_all_who_wait_and_not_kept() -> None:
    """The next one asks again."""
    audit = Audit()
    answers = Answers()
    audit.failure = OSError("away")
    found = await asyncio.gather(*(answers.of("a", audit.ask) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["away"] * 3
    audit.failure = None
    assert await answers.of("a", audit.ask) == 2


async def test_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    """A request that is cut off while it waits."""
    audit = Audit()
    answers = Answers()
    audit.may_answer.clear()
    first, second = (asyncio.ensure_future(answers.of("a", audit.ask)) for _ in range(2))
    await asyncio.sleep(0)  # both have asked
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    audit.may_answer.set()
    assert await second == 1


@pytest.mark.parametrize("questions", [ANSWERS_MAX, 3 * ANSWERS_MAX])
async def test_the_number_of_kept_answers_is_bounded(questions: int) -> None:
    """Addresses may be made up."""
    answers = Answers()
    for number in range(questions):
        await answers.of(number, lambda: None)
    assert len(answers._latest) <= ANSWERS_MAX
