"""What is sent: a mix of tasks as a fleet of agents makes them, and slots of every model that come free again.

Everything follows from a seed, so that both sides of a comparison, and two runs, get the same events.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from aiokafka.partitioner import murmur2
from msgspec import Struct

from schemas.codec import write_event
from schemas.events import Affinity, BudgetCredited, ModelExhausted, Outcome, QuotaUpdated, SlotFreed, TaskPending
from schemas.input import Input
from schemas.record import Record
from schemas.vocabulary import (
    FLEET_CONTROL,
    INPUT_TOPICS,
    SLOT_FREED,
    TASK_PENDING,
    Dimension,
    Millis,
    Strategy,
    from_millis,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.decision import Step
    from schemas.events import Event

PENDING: Final = INPUT_TOPICS.index(TASK_PENDING)
FREED: Final = INPUT_TOPICS.index(SLOT_FREED)
CONTROL: Final = INPUT_TOPICS.index(FLEET_CONTROL)
SOURCE: Final = "slotwise/bench"
#: Every model of the shipped catalogue; slots are dealt out in this order.
MODELS: Final = ("opus", "gpt-5", "sonnet", "codex", "haiku", "minimax", "glm", "gemini-flash", "local")

ACCOUNTS: Final = ("account-0", "account-1")
ROLES: Final = ("editor", "writer", "coder", "reviewer", "architect", None)
KINDS: Final = ("code", "docs", "bulk", "strategy", "security", None)
#: Half of the tasks leave it to the policy.
STRATEGIES: Final[tuple[Strategy | None, ...]] = (None, None, "objective", "preference")

#: Ten shapes of requirements, from "any model will do" to what only the best can.
REQUIREMENTS: Final[tuple[dict[Dimension, int], ...]] = (
    {},
    {"coding": 3},
    {"coding": 4},
    {"coding": 5},
    {"coding": 7},
    {"coding": 8},
    {"coding": 9},
    {"coding": 8, "safety": 9},
    {"coding": 7, "reasoning": 6},
    {"analysis": 5},
)
PRIORITIES: Final = (30, 50, 50, 50, 70, 90)
TENANTS: Final = ("acme", "initech", "umbrella")
TITLES: Final = ("Fix typo in README", "Write the migration", "Answer the review", "Summarise the incident")


class Message(Struct, frozen=True):
    """One record on its way to an input topic."""

    #: Index into `INPUT_TOPICS`.
    topic: int
    partition: int
    at_ms: int
    record: Record


class Load(Struct, frozen=True):
    """What one comparison sends: first the fleet and a backlog, and then what is measured."""

    first: tuple[Message, ...]
    measured: tuple[Message, ...]


class Tasks:
    """Tasks of one pool, numbered."""

    def __init__(self, pool: str, seed: int = 1, *, whole: bool = False) -> None:
        self.pool = pool
        self._random = random.Random(seed)
        self._count = 0
        #: Every rule of the policy has something to say about some of them.
        self._whole = whole

    def next(self, now_ms: int) -> TaskPending:
        """Give one more."""
        chance = self._random
        self._count += 1
        own_ways: dict[str, Any] = {
            "agent_role": "editor",
            "task_type": "code",
            "output_tokens": 500,
        }
        if self._whole:
            own_ways = {
                "agent_role": chance.choice(ROLES),
                "task_type": chance.choice(KINDS),
                "output_tokens": chance.randrange(50, 4000),
                "strategy": chance.choice(STRATEGIES),
                "requires_reasoning": chance.random() < 0.2,
                "affinity": Affinity(account=chance.choice(ACCOUNTS)) if chance.random() < 0.2 else None,
                "max_tier": 2 if chance.random() < 0.1 else None,
                "deny_providers": ("zhipu",) if chance.random() < 0.1 else (),
            }
        return TaskPending(
            task_id=f"{self.pool}-t{self._count}",
            pool=self.pool,
            at=from_millis(now_ms),
            title=chance.choice(TITLES),
            ev=round(chance.lognormvariate(1, 1), 3),
            priority=chance.choice(PRIORITIES),
            requires=chance.choice(REQUIREMENTS),
            input_tokens=chance.randrange(100, 5000),
            layer="docs",
            lane="maintenance",
            tenant_id=chance.choice(TENANTS),
            **own_ways,
        )


class Churn:
    """Inputs for one router in memory: a fleet, a backlog, and then as many slots that come free as tasks that come."""

    def __init__(self, pool: str, now_ms: int, seed: int = 1, *, whole: bool = False) -> None:
        self.now_ms = now_ms
        self.pool = pool
        self._whole = whole
        self._tasks = Tasks(pool, seed, whole=whole)
        self._random = random.Random(seed)
        self._offsets = [-1] * len(INPUT_TOPICS)
        self._slots = 0
        #: slot -> (lease, task) of those that hold one.
        self._leased: dict[str, tuple[int, str]] = {}
        self._order: list[str] = []

    @property
    def leased(self) -> int:
        """Slots at work."""
        return len(self._leased)

    @property
    def sent(self) -> int:
        """Inputs so far."""
        return sum(self._offsets) + len(self._offsets)

    def announce(self, count: int) -> list[Input]:
        """So many new slots, of all models in turn."""
        slots = range(self._slots, self._slots + count)
        self._slots += count
        return [
            self._input(
                FREED,
                SlotFreed(
                    slot_id=f"s{i}",
                    pool=self.pool,
                    at=from_millis(self.now_ms),
                    model=MODELS[i % len(MODELS)],
                    account=ACCOUNTS[i // len(MODELS) % len(ACCOUNTS)] if self._whole else None,
                ),
            )
            for i in slots
        ]

    def rule(self) -> list[Input]:
        """What operators and probes say first: budgets for all tenants, a quota watched, one product used up."""
        at = from_millis(self.now_ms)
        later = from_millis(self.now_ms + 30 * 86_400_000)
        said: list[Event] = [
            BudgetCredited(
                control_id=f"credit-{tenant}", at=at, by="bench", pool=self.pool, tenant_id=tenant, amount_usd=1e6
            )
            for tenant in TENANTS
        ]
        said += [
            QuotaUpdated(
                control_id="quota",
                at=at,
                by="bench",
                provider="anthropic",
                product="claude",
                account=ACCOUNTS[0],
                window="5h",
                utilisation=0.85,
                resets_at=later,
            ),
            ModelExhausted(control_id="exhausted", at=at, by="bench", product="zhipu", until=later),
        ]
        return [self._input(CONTROL, event) for event in said]

    def arrive(self, count: int) -> list[Input]:
        """So many new tasks, a millisecond apart."""
        return [self._input(PENDING, self._tasks.next(self.now_ms)) for _ in range(count)]

    def turn(self, pairs: int) -> list[Input]:
        """So many times: a slot has done its task, and a new task comes."""
        inputs = []
        for _ in range(min(pairs, len(self._leased))):
            inputs += [self._finish(), *self.arrive(1)]
        return inputs

    def finish(self) -> list[Input]:
        """One slot has done its task."""
        return [self._finish()]

    def see(self, step: Step) -> None:
        """Take note of who holds what after a step."""
        for slot in step.slots:
            if slot.state == "leased" and slot.task_id is not None:
                if slot.slot_id not in self._leased:
                    self._order.append(slot.slot_id)
                self._leased[slot.slot_id] = (slot.lease, slot.task_id)

    def _finish(self) -> Input:
        place = self._random.randrange(len(self._order))
        self._order[place], self._order[-1] = self._order[-1], self._order[place]
        slot_id = self._order.pop()
        lease, task_id = self._leased.pop(slot_id)
        outcome = Outcome(task_id=task_id, status="success", input_tokens=2100, output_tokens=500, cost_usd=0.01)
        event = SlotFreed(slot_id=slot_id, pool=self.pool, at=from_millis(self.now_ms), lease=lease, outcome=outcome)
        return self._input(FREED, event)

    def _input(self, topic: int, event: Event) -> Input:
        self.now_ms += 1
        self._offsets[topic] += 1
        return Input(topic, self._offsets[topic], Millis(self.now_ms), event)


def pools_at_home(partitions: int) -> tuple[str, ...]:
    """One pool for each partition, by Kafka's partitioner."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        pool = f"team-{number}"
        found.setdefault((murmur2(pool.encode()) & 0x7FFFFFFF) % partitions, pool)
        number += 1
    return tuple(found[partition] for partition in range(partitions))


def load(events: int, *, partitions: int, slots: int, start_ms: int) -> Load:
    """So many events to measure, half of them tasks and half slots that come free; before them what they need.

    Topics are delivered in any order, thousands of records at once. So that every slot that comes free finds a task
    all the same, the backlog alone is enough for all of them; and a slot comes again only after all the others, so
    that its lease is known beforehand: the number of times it came.
    """
    pairs = events // (2 * partitions)
    first: list[Message] = []
    measured: list[Message] = []
    for partition, pool in enumerate(pools_at_home(partitions)):
        tasks = Tasks(pool, seed=partition)
        now_ms = start_ms
        first += [message(slot, partition, now_ms) for slot in _fleet(pool, slots, now_ms)]
        for _ in range(slots + pairs + pairs // 4):
            now_ms += 1
            first.append(message(tasks.next(now_ms), partition, now_ms))
        for number in range(pairs):
            now_ms += 1
            freed = _free(pool, number % slots, number // slots + 1, now_ms)
            measured += [message(event, partition, now_ms) for event in (freed, tasks.next(now_ms))]
    return Load(tuple(first), tuple(sorted(measured, key=lambda one: one.at_ms)))


def message(event: TaskPending | SlotFreed, partition: int, at_ms: int) -> Message:
    """Make the record of an event, with the headers that a producer gives it."""
    topic = PENDING if isinstance(event, TaskPending) else FREED
    record = write_event(INPUT_TOPICS[topic], event, ce_id=f"{partition}-{at_ms}", source=SOURCE, time_ms=at_ms)
    return Message(topic, partition, at_ms, record)


def duration_ms(events: int, *, partitions: int, slots: int) -> int:
    """How long a load lasts by its own timestamps."""
    return slots + 3 * (events // (2 * partitions)) + 1


def in_steps(inputs: Sequence[Input], size: int) -> Iterator[Sequence[Input]]:
    """Cut into steps of so many inputs."""
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


def _fleet(pool: str, slots: int, now_ms: int) -> list[SlotFreed]:
    at = from_millis(now_ms)
    return [
        SlotFreed(slot_id=f"slot-{i}", pool=pool, at=at, model=MODELS[i % len(MODELS)], account=f"account-{i % 7}")
        for i in range(slots)
    ]


def _free(pool: str, slot: int, lease: int, now_ms: int) -> SlotFreed:
    return SlotFreed(
        slot_id=f"slot-{slot}", pool=pool, at=from_millis(now_ms), model=MODELS[slot % len(MODELS)], lease=lease
    )
