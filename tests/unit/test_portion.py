"""Work in portions: when a portion is used up, and how long the rest after it is."""

from __future__ import annotations

from streams.operate.portion import Portion


class Time:
    """A clock that stands still but for what a test adds, and for sleeps."""

    def __init__(self) -> None:
        self.s = 100.0
        self.slept: list[float] = []

    def now_s(self) -> float:
        """Seconds."""
        return self.s

    async def sleep(self, seconds: float) -> None:
        """Pass."""
        self.slept.append(seconds)
        self.s += seconds


def test_a_portion_is_used_up_when_its_work_has_taken_so_long() -> None:
    """Not before."""
    time = Time()
    portion = Portion(0.5, time.now_s, time.sleep)
    assert not portion.used_up
    time.s += 0.25
    assert not portion.used_up
    time.s += 0.25
    assert portion.used_up


async def test_the_rest_is_as_long_as_the_work_and_begins_a_new_portion() -> None:
    """So half of the time is left to others, however long a piece of work is."""
    time = Time()
    portion = Portion(0.5, time.now_s, time.sleep)
    time.s += 2.0
    await portion.rest()
    assert time.slept == [2.0]
    assert not portion.used_up
    time.s += 0.5
    assert portion.used_up
