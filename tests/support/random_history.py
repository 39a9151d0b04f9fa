"""Histories of random events, the same for the same seed: everything that happens to a fleet happens in them, often."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from schemas.codec import read_event, write_event
from schemas.events import Event
from schemas.input import Content, Input, Misplaced, Unreadable
from schemas.vocabulary import INPUT_TOPICS
from streams.core.policy.rulebook import Rulebook
from tests.support.builders import START_MS, cancelled, freed, retired, rulebook, slot, task, tick
from tests.support.router_rig import RouterRig

MODELS = ("opus", "gpt-5", "sonnet", "codex", "haiku", "glm", "gemini-flash")
POOLS = ("main", "main", "main", "side")

Choice = Callable[[], Content | None]


def book(**sections: dict[str, Any]) -> Rulebook:
    """Give rules under which everything happens often: ageing, recomputing, and announcements that must wait.

    A section that is named changes what is said there, and nothing else.
    """
    often: dict[str, dict[str, Any]] = {
        "service": {"ageing_s_per_point": 0.667, "announcements_max": 3, "announcements_per_s": 2.0},
        "ev": {"window_s": 120.0, "recompute_s": 1.3},
        "attempts": {"finished_memory_s": 60.0, "back_off_s": 0.4},
        "leases": {"default_s": 20.0},
    }
    return rulebook(**{name: often.get(name, {}) | sections.get(name, {}) for name in often | sections})


class History:
    """A rig and random events; the same seed gives the same events."""

    def __init__(self, seed: int, rules: Rulebook | None = None) -> None:
        self.rnd = random.Random(seed)
        self.rig = RouterRig(book=rules or book(), strict=False)
        self.names = 0
        self.controls = 0
        self.choices: list[tuple[Choice, int]] = [
            (self.comes, 50),
            (self.announced, 12),
            (self.given_back, 28),
            (self.cancelled, 3),
            (self.retired, 2),
            (self.ticks, 3),
            (lambda: Unreadable("value: no JSON."), 2),
            (lambda: Misplaced(3), 1),
        ]

    def play(self, steps: int) -> RouterRig:
        """So many steps of one to ten events; the rig then has the batches and their steps."""
        makers, weights = zip(*self.choices, strict=True)
        for _ in range(steps):
            after_ms = self.rnd.choice([0, 5, 300, 700, 2_000, 30_000])
            batch: list[tuple[int, Content]] = []
            for make in self.rnd.choices(makers, weights, k=self.rnd.choice([1, 1, 3, 10])):
                event = make()
                if event is not None:
                    batch.append((after_ms, event))
                    after_ms = self.rnd.choice([0, 0, 1, 20])
            if batch:
                self.rig.hand_in_timed(batch)
        return self.rig

    def control(self) -> dict[str, str]:
        """A control id that no other history has any part in; now and then one that was there before."""
        self.controls += self.rnd.random() < 0.9
        return {"control_id": f"c-{self.controls}"}

    def some_task(self) -> str:
        """A task's name, known or not yet."""
        return f"t-{self.rnd.randrange(self.names + 3)}"

    def comes(self) -> Event:
        """A task."""
        rnd, now_ms = self.rnd, self.rig.now_ms
        self.names += 1
        return task(
            f"t-{self.names}" if rnd.random() < 0.95 else self.some_task(),
            pool=rnd.choice(POOLS),
            at_ms=now_ms - rnd.choice([0, 0, 500]),
            ev=rnd.choice([None, rnd.lognormvariate(1, 1), rnd.lognormvariate(1, 1), 5.0]),
            priority=rnd.choice([10, 50, 50, 95]),
            quest_priority=rnd.choice([0, 0, 0, 96]),
            requires=rnd.choice([{}, {}, {"coding": 5}, {"coding": 8}, {"coding": 10, "reasoning": 9}]),
            complexity=rnd.choice([None, "trivial", "standard", "expert"]),
            on_failure=rnd.choice(["retry", "escalate", "drop"]),
            deny_providers=rnd.choice([(), (), ("anthropic",), ("openai", "google")]),
            deadline_ms=rnd.choice([None, None, now_ms + 3_000]),
            not_before_ms=rnd.choice([None, None, None, now_ms + 1_500]),
        )

    def announced(self) -> Event:
        """A slot says that it is there, now and then with another model."""
        model, number = self.rnd.choice(MODELS), self.rnd.randrange(2)
        runs = model if self.rnd.random() < 0.9 else self.rnd.choice(MODELS)
        return slot(f"{model}-{number}", runs, pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms)

    def given_back(self) -> Event | None:
        """A slot that works reports how it went, now and then under a lease that is over."""
        leased = [
            row for pool in self.rig.router.state.pools.values() for row in pool.slots.values() if row.state == "leased"
        ]
        if not leased:
            return None
        row = self.rnd.choice(leased)
        status = self.rnd.choice(["success", "success", "failure", "cancelled"])
        lease = row.lease - (self.rnd.random() < 0.05)
        return freed(row.slot_id, lease, row.task_id, status, pool=row.pool, at_ms=self.rig.now_ms)

    def cancelled(self) -> Event:
        """A task is cancelled, known or not yet."""
        return cancelled(self.some_task(), pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms, **self.control())

    def retired(self) -> Event:
        """A slot is retired, known or not."""
        name = f"{self.rnd.choice(MODELS)}-{self.rnd.randrange(2)}"
        return retired(name, pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms, **self.control())

    def ticks(self) -> Event:
        """Time passes."""
        return tick(at_ms=self.rig.now_ms, **self.control())


def over_the_wire(item: Input) -> Input:
    """Give the input as it comes from its record."""
    if isinstance(item.event, Unreadable | Misplaced):
        return item
    topic = INPUT_TOPICS[item.topic]
    record = write_event(topic, item.event, ce_id="1", source="/tests", time_ms=START_MS)
    event = read_event(topic, record.key, record.value, record.headers)
    return Input(topic=item.topic, offset=item.offset, now_ms=item.now_ms, event=event)
