"""One look at the broker serves all who asked while it took place, however long it takes."""

from __future__ import annotations

from typing import Any, Self

import pytest

from streams.operate import lag
from streams.views.lag import Look


class SlowReader:
    """A reader whose looks take three seconds of the test's clock."""

    clock_s = 100.0
    looks = 0

    def __init__(self, *_: Any) -> None:
        """Whatever the settings are."""

    def __enter__(self) -> Self:
        """Connect to nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def look(self) -> Look:
        """Take long."""
        type(self).looks += 1
        began_s = self.clock_s
        type(self).clock_s += 3.0
        return Look(at_ms=0, at_s=began_s, readings={})


def test_who_waited_for_a_slow_look_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that is older than a second when it ends is still the newest that there is."""
    monkeypatch.setattr(SlowReader, "looks", 0)
    monkeypatch.setattr(lag, "LagReader", SlowReader)
    monkeypatch.setattr("streams.operate.lag.time.monotonic", lambda: SlowReader.clock_s)
    shared = lag.SharedLag()
    nothing: Any = None
    first = shared.report(nothing, nothing)
    SlowReader.clock_s += 0.5
    assert (shared.report(nothing, nothing) is first, SlowReader.looks) == (True, 1)
    SlowReader.clock_s += 0.6
    assert (shared.report(nothing, nothing) is first, SlowReader.looks) == (False, 2)
