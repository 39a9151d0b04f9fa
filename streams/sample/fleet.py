"""A simulated fleet: its slots, how long a task takes on each, and how the task ends.

Pure: random numbers come from the task's number and attempt, so that a decision always has the same outcome.
Times are simulated seconds; the caller decides how fast they pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from schemas.events import Outcome, SlotFreed, TaskRouted
from schemas.vocabulary import Complexity, Fit, Tier, from_millis, to_millis
from streams.core.policy.tariff import Tariff, Usage
from streams.sample.work import SampleTask

#: Slots by model: few premium ones, so that their places are worth something; every model of the catalogue has one.
SLOTS: Final[Mapping[str, int]] = {
    "opus": 2,
    "gpt-5": 1,
    "sonnet": 5,
    "codex": 3,
    "haiku": 3,
    "minimax": 2,
    "glm": 1,
    "gemini-flash": 2,
    "local": 1,
}

#: The tier that a class of work needs; on a lower tier it fails more often.
TIER_WANTED: Final[Mapping[Complexity, Tier]] = {"trivial": 1, "simple": 1, "standard": 2, "complex": 2, "expert": 3}
FAILS_WHEN_FIT: Final = 0.02
FAILS_WHEN_UNDERPOWERED: Final = 0.10
#: Greatest difference of a result's quality from the model's, in both directions.
QUALITY_SPREAD: Final = 0.15
#: From this quality on the result is accepted.
QUALITY_ACCEPTED: Final = 0.15
#: Seconds that a task of an earlier run takes.
UNKNOWN_TASK_S: Final = 5.0


class Engine(Struct, frozen=True):
    """Fields of a model that the fleet uses."""

    model: str
    tier: Tier
    speed_tps: float
    quality: float
    tariff: Tariff


class Slot(Struct, frozen=True):
    """One slot."""

    slot_id: str
    model: str
    account: str


class Work(Struct, frozen=True):
    """A task on a slot: how long it takes, and its outcome."""

    routed: TaskRouted
    duration_s: float
    outcome: Outcome

    def freed(self, now_ms: int) -> SlotFreed:
        """Return the event that frees the slot, under its lease."""
        return SlotFreed(
            slot_id=self.routed.slot_id,
            pool=self.routed.pool,
            at=from_millis(now_ms),
            model=self.routed.model,
            lease=self.routed.lease,
            outcome=self.outcome,
        )


class Fleet:
    """The slots of one pool. Takes each decision once, however often it is delivered."""

    def __init__(self, engines: Iterable[Engine], tasks: Iterable[SampleTask], pool: str = "main") -> None:
        self.pool = pool
        self._engines = {engine.model: engine for engine in engines}
        self._tasks = {task.event.task_id: task for task in tasks}
        self._seen: set[str] = set()
        self._leases: dict[str, int] = {}
        self.slots = tuple(
            Slot(f"{model}-{number}", model, f"{model}-account-{(number + 1) // 2}")
            for model, count in SLOTS.items()
            if model in self._engines
            for number in range(1, count + 1)
        )

    def announcements(self, now_ms: int) -> list[SlotFreed]:
        """Return an announcement of every slot, without a lease."""
        at = from_millis(now_ms)
        return [
            SlotFreed(slot_id=slot.slot_id, pool=self.pool, at=at, model=slot.model, account=slot.account)
            for slot in self.slots
        ]

    def farewells(self, now_ms: int) -> list[SlotFreed]:
        """Return the last word of every slot: it is out of its pool, and its task, if it has one, is pending again."""
        at = from_millis(now_ms)
        return [
            SlotFreed(slot_id=slot.slot_id, pool=self.pool, at=at, state="leaving", ttl_s=1.0) for slot in self.slots
        ]

    def take(self, routed: TaskRouted) -> Work | None:
        """Start the work of a decision; None for one that was taken before, is stale, or names an unknown slot."""
        if routed.decision_id in self._seen or routed.pool != self.pool or routed.mode != "live":
            return None
        self._seen.add(routed.decision_id)
        if routed.lease <= self._leases.get(routed.slot_id, 0) or routed.model not in self._engines:
            return None
        self._leases[routed.slot_id] = routed.lease
        engine = self._engines[routed.model]
        task = self._tasks.get(routed.task_id)
        if task is None:
            return Work(routed, UNKNOWN_TASK_S, Outcome(task_id=routed.task_id, status="success"))
        output_tokens = min(task.output_tokens, routed.max_tokens)
        duration_s = task.overhead_s + output_tokens / engine.speed_tps
        return Work(routed, duration_s, _outcome(task, engine, routed, output_tokens, duration_s))


def _outcome(task: SampleTask, engine: Engine, routed: TaskRouted, output_tokens: int, duration_s: float) -> Outcome:
    wanted = TIER_WANTED[task.complexity]
    underpowered = engine.tier < wanted
    # The number within the sample, not the id: the id also contains the run.
    number = task.event.task_id.rpartition("-")[2]
    failed = draw("fails", number, routed.attempt) < (FAILS_WHEN_UNDERPOWERED if underpowered else FAILS_WHEN_FIT)
    stray = QUALITY_SPREAD * (2.0 * draw("quality", number, routed.attempt, routed.model) - 1.0)
    quality = 0.0 if failed else min(1.0, max(0.0, engine.quality + stray))
    fit = _fit(engine.tier, wanted, failed=failed)
    usage = Usage(task.event.input_tokens, output_tokens)
    cost_uusd = engine.tariff.cost_uusd(usage, to_millis(routed.decided_at))
    return Outcome(
        task_id=routed.task_id,
        status="failure" if failed else "success",
        input_tokens=task.event.input_tokens,
        output_tokens=output_tokens,
        cost_usd=cost_uusd / 1_000_000 if cost_uusd is not None else None,
        latency_s=round(duration_s, 3),
        quality=round(quality, 3),
        accepted=not failed and quality >= QUALITY_ACCEPTED,
        error_class="simulated" if failed else None,
        fit=fit,
    )


def _fit(tier: Tier, wanted: Tier, *, failed: bool) -> Fit:
    if failed:
        return "failed"
    if tier == wanted:
        return "good_fit"
    return "underpowered" if tier < wanted else "overprovisioned"


def draw(*words: object) -> float:
    """Return a number from 0 up to 1 that depends only on the words."""
    digest = hashlib.blake2b(":".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64
