"""Values for tests, built by naming only what matters; the rest is ordinary."""

from __future__ import annotations

import itertools
import json
import tomllib
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from schemas.decision import Accepted, Decision, Step, TaskRow, WorkDone
from schemas.events import Outcome, SlotFreed, SlotRetired, TaskCancelled, TaskPending, TaskRetried, Tick
from schemas.input import Content, Input, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, Millis, from_millis
from streams.core.index.fleet import Fleet
from streams.core.index.groups import Group, GroupKey
from streams.core.index.shape import Shape
from streams.core.index.undo import Undo
from streams.core.index.waiting import Entry
from streams.core.policy.catalog import Catalog
from streams.core.policy.rulebook import Policy, Rulebook
from streams.shipped import shipped

#: 2026-11-21T10:00:00.000Z, when every history begins.
START_MS = 1_795_255_200_000
NO_FLEET = Fleet((), {}, frozenset())
_control_numbers = itertools.count(1)


def decision(**named: Any) -> Decision:
    """Give a decision; `alternatives` may be a dict. Its id follows from pool, task and `of`, the step's number."""
    of = named.pop("of", 0)
    fields: dict[str, Any] = {
        "task_id": "t-1",
        "pool": "main",
        "outcome": "routed",
        "decided_at_ms": START_MS,
        "attempt": 1,
        "priority": 50,
        "strategy": "cheapest_capable",
        "input_topic": "task.pending",
        "input_offset": 0,
        **named,
    }
    routed = fields["outcome"] == "routed"
    fields.setdefault("at_ms", fields["decided_at_ms"])
    fields.setdefault("waiting_since_ms", fields["at_ms"])
    fields.setdefault("reason_code", "cheapest_capable" if routed else "capable_busy")
    fields.setdefault("reason", "Lowest capable tier; haiku-1 is idle." if routed else "Every capable slot is busy.")
    if routed:
        fields.setdefault("chosen_slot_id", "haiku-1")
        fields.setdefault("chosen_model", "haiku")
        fields.setdefault("tier", 1)
        fields.setdefault("lease", 1)
        fields.setdefault("lease_expires_at_ms", fields["decided_at_ms"] + 900_000)
        fields.setdefault("max_tokens", 1024)
    alternatives = fields.setdefault("alternatives", {"haiku": {"gate": "chosen" if routed else "busy"}})
    if not isinstance(alternatives, Raw):
        fields["alternatives"] = Raw(json.dumps(alternatives, separators=(",", ":")).encode())
    fields.setdefault("decision_id", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{fields['pool']}/{of}/{fields['task_id']}")))
    return Decision(**fields)


def work(of: Decision, **named: Any) -> WorkDone:
    """Give the outcome of the work that a decision started: a success, if nothing else is said."""
    at_ms = named.pop("at_ms", of.decided_at_ms + 60_000)
    return WorkDone(
        decision_id=of.decision_id,
        pool=of.pool,
        slot_id=of.chosen_slot_id or "haiku-1",
        model=of.chosen_model or "haiku",
        lease=of.lease or 1,
        at_ms=Millis(at_ms),
        outcome=Outcome(**{"task_id": of.task_id, "status": "success", **named}),
    )


def step(seq: int = 0, *decisions: Decision, **named: Any) -> Step:
    """Give a step that holds these decisions, and as many inputs."""
    now_ms = max((one.decided_at_ms for one in decisions), default=START_MS + seq)
    fields: dict[str, Any] = {
        "partition": 0,
        "now_ms": now_ms,
        "policy": "policy-1",
        "catalog": "catalog-1",
        "inputs": tuple(Accepted(0, 1000 * seq + place, Millis(now_ms)) for place in range(max(1, len(decisions)))),
        **named,
    }
    return Step(seq=seq, decisions=decisions, **fields)


def journal(steps: Iterable[Step]) -> list[bytes]:
    """Give steps as the values of journal records."""
    return [encode_step(one) for one in steps]


def rulebook(*, without: Iterable[str] = (), **sections: dict[str, Any]) -> Rulebook:
    """Give the shipped rules; `service={"announcements_max": 2}` changes a key, `without` drops models."""
    catalog, policy = tomllib.loads(shipped("catalog.toml")), tomllib.loads(shipped("policy.toml"))
    catalog["model"] = [model for model in catalog["model"] if model["id"] not in without]
    for section, changed in sections.items():
        policy[section] |= changed
    return Rulebook(msgspec.convert(catalog, Catalog), msgspec.convert(policy, Policy))


def _at(named: dict[str, Any]) -> dict[str, Any]:
    """Times may be given in milliseconds, as `at_ms`."""
    for name in ("at", "deadline", "not_before"):
        if (at_ms := named.pop(f"{name}_ms", None)) is not None:
            named[name] = from_millis(at_ms)
    return {"pool": "main", "at": from_millis(START_MS), **named}


def task(task_id: str = "t-1", **named: Any) -> TaskPending:
    """Give a task that any model can do; times as `at_ms`, `deadline_ms`, `not_before_ms`."""
    return TaskPending(task_id=task_id, **_at(named))


def slot(slot_id: str = "haiku-1", model: str | None = None, **named: Any) -> SlotFreed:
    """Give the announcement of a slot; `haiku-1` runs haiku unless another model is said."""
    return SlotFreed(slot_id=slot_id, model=model or slot_id.rpartition("-")[0], **_at(named))


def freed(slot_id: str, lease: int, task_id: str | None = None, status: str = "success", **named: Any) -> SlotFreed:
    """Give a slot back under its lease, with the outcome of the task if one is named; keyword `outcome` adds to it."""
    more = named.pop("outcome", {})
    outcome = msgspec.convert({"task_id": task_id, "status": status, **more}, Outcome) if task_id is not None else None
    return SlotFreed(slot_id=slot_id, lease=lease, outcome=outcome, **_at(named))


def working(slot_id: str, lease: int, **named: Any) -> SlotFreed:
    """Give the report of a slot that works on under its lease."""
    return SlotFreed(slot_id=slot_id, lease=lease, state="working", **_at(named))


def _control(named: dict[str, Any]) -> dict[str, Any]:
    return {"control_id": f"c-{next(_control_numbers)}", "by": "ops", **_at(named)}


def cancelled(task_id: str, **named: Any) -> TaskCancelled:
    """Give the cancel of a task; a new control id unless one is said."""
    return TaskCancelled(task_id=task_id, **_control(named))


def retried(task_id: str, **named: Any) -> TaskRetried:
    """Give the order to run a task again; a new control id unless one is said."""
    return TaskRetried(task_id=task_id, **_control(named))


def retired(slot_id: str, **named: Any) -> SlotRetired:
    """Give the retirement of a slot; a new control id unless one is said."""
    return SlotRetired(slot_id=slot_id, **_control(named))


def tick(**named: Any) -> Tick:
    """Give a tick, which concerns no pool."""
    return Tick(**(_control(named) | {"pool": None}))


def topic_of(event: Content) -> int:
    """The input topic that brings such an event, as its place in `INPUT_TOPICS`."""
    name = {TaskPending: TASK_PENDING, SlotFreed: SLOT_FREED, Unreadable: TASK_PENDING}.get(type(event), FLEET_CONTROL)
    return INPUT_TOPICS.index(name)


def inputs(*events: Content, now_ms: int = START_MS, offset: int = 0) -> list[Input]:
    """Give events as records handed over at one moment, with offsets that count on from `offset`."""
    return [
        Input(topic=topic_of(event), offset=offset + place, now_ms=Millis(now_ms), event=event)
        for place, event in enumerate(events)
    ]


def entry_of(row: TaskRow, ageing_ms: int = 60_000) -> Entry:
    """Give a waiting task's place in an index without models."""
    undo = Undo()
    group = Group(
        GroupKey((), low=False, lifted=False, barred=0, emergency_mask=0, failed=False, bill=None),
        NO_FLEET,
        ageing_ms,
        None,
        undo,
    )
    shape = Shape(bars="", complexity=None, strategy="cheapest_capable", verdicts=())
    return Entry(row, ageing_ms, shape, group)
