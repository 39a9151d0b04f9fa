"""What takes a while to be asked: who asks gets the last answer at once, or waits for one that is young enough."""

from __future__ import annotations

import pytest

from streams.web.probe import Probe


class Question:
    """Asked so many times; an error in place of an answer."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)

    async def __call__(self) -> int:
        """Answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_young_answer_is_given_again_and_an_old_one_is_not() -> None:
    """The same for all who ask within the time; behind it the next one."""
    probe = Probe(Question(1, 2, 3), every_s=60)
    assert [await probe.recent(60), await probe.recent(60), await probe.latest()] == [1, 1, 1]
    assert await probe.recent(-1) == 2  # whatever its age is, it is more than that
    assert await probe.latest() == 2


async def test_who_waits_for_an_answer_learns_why_there_is_none() -> None:
    """The error is raised; an answer of before is given no longer than it may be."""
    probe = Probe(Question(1, OSError("away"), OSError("away"), 2), every_s=60)
    assert await probe.recent(60) == 1
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await probe.recent(-1)
    assert await probe.recent(60) == 1
    assert await probe.recent(-1) == 2
