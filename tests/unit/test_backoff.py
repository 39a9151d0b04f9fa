"""Back-off: the pause doubles, has a limit, and is spread by the jitter."""

from __future__ import annotations

import pytest

from streams.backoff import Backoff


@pytest.mark.parametrize(("failures", "want_s"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 3.0), (10_000, 3.0)])
def test_the_pause_doubles_up_to_its_limit(failures: int, want_s: float) -> None:
    """Each failure in a row doubles the pause, and no number of failures exceeds the limit."""
    assert Backoff(first_s=0.5, longest_s=3.0).pause_s(failures) == want_s


def test_the_jitter_spreads_from_half_to_whole() -> None:
    """Clients that failed together come back at different moments, and none before half of the pause."""
    backoff = Backoff(first_s=4.0, longest_s=60.0)
    assert [backoff.pause_s(0, jitter) for jitter in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]
