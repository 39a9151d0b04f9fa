"""The supervisor restarts what died: at once the first time, then after growing pauses, until it is healthy."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.local.process import EmbeddedError, Part
from streams.local.supervisor import BACKOFF, STEADY_S, Supervisor


class FakePart(Part):
    """A part without a process."""

    name = "The fake"
    durable = True

    def __init__(self) -> None:
        super().__init__(log_file=Path("fake.log"), port=1)
        self.up = False
        self.broken = False

    def launch(self) -> None:
        """Start, unless it is broken."""
        if self.broken:
            raise EmbeddedError("The fake is broken.")
        self.up = True

    def stop(self) -> None:
        """Stop."""
        self.up = False

    def alive(self) -> bool:
        """Whether it runs."""
        return self.up

    def _prepare(self) -> list[str]:
        return []

    def _answers(self) -> bool:
        return self.up


class Scene:
    """A supervisor of one part, and its clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.reports: list[str] = []
        self.supervisor = Supervisor(self.reports.append, lambda: self.now_s)
        self.part = FakePart()
        self.supervisor.start(fake=self.part)

    def die(self) -> None:
        """The part ends by itself."""
        self.part.up = False


def test_the_first_death_is_answered_at_once_and_the_next_ones_later() -> None:
    """A part that keeps dying is not restarted in a tight loop."""
    scene = Scene()
    assert scene.supervisor.died() == []
    for deaths in range(4):
        scene.die()
        assert scene.supervisor.died() == ["fake"]
        scene.supervisor.restart("fake")
        scene.die()
        scene.now_s += BACKOFF.pause_s(deaths) - 0.01
        assert scene.supervisor.died() == []
        scene.now_s += 0.02
    assert scene.supervisor.restarts == {"fake": 4}


def test_a_part_that_ran_long_enough_starts_with_a_short_pause_again() -> None:
    """A steady part has no history of deaths."""
    scene = Scene()
    for _ in range(5):
        scene.die()
        scene.now_s += BACKOFF.longest_s
        scene.supervisor.restart("fake")
    scene.now_s += STEADY_S + 1
    assert scene.supervisor.died() == []
    scene.die()
    scene.supervisor.restart("fake")
    scene.die()
    scene.now_s += BACKOFF.first_s
    assert scene.supervisor.died() == ["fake"]


def test_a_restart_that_fails_is_tried_again_after_its_pause() -> None:
    """The failure reaches the caller, and the part stays on the list."""
    scene = Scene()
    scene.die()
    scene.part.broken = True
    with pytest.raises(EmbeddedError, match="The fake is broken"):
        scene.supervisor.restart("fake")
    assert scene.supervisor.died() == []
    scene.now_s += BACKOFF.first_s
    assert scene.supervisor.died() == ["fake"]


def test_a_part_that_is_stopped_is_forgotten() -> None:
    """What was stopped on purpose is not restarted, and starts and stops are reported."""
    scene = Scene()
    scene.supervisor.stop("fake")
    assert scene.supervisor.died() == []
    assert scene.supervisor.parts == {}
    assert scene.reports == ["Starting fake.", "Stopping fake."]
