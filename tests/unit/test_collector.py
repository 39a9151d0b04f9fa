"""What the garbage collector leaves alone, and that nothing of an earlier state is kept by that."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.collector import set_aside


class Loop:
    """Something that only a collection takes away."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector as it was."""
    yield
    gc.unfreeze()


def test_what_is_there_is_not_looked_at_again() -> None:
    """Neither by a collection nor by who asks for what it looks at."""
    kept = Loop()
    set_aside()
    assert gc.get_freeze_count() > 0
    assert not any(one is kept for one in gc.get_objects())


def test_what_was_set_aside_and_is_not_used_any_more_goes_with_the_next_time() -> None:
    """An earlier state whose parts name each other would else never go."""
    one = Loop()
    set_aside()
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is not None
    set_aside()
    assert gone() is None
