"""An auditor that reads the journal as another language would: JSON only, not a line shared with the router.

It reads the records of one partition by the rule "the first record with the next number wins" and says what is wrong
in sentences: a number left out, an input handled twice or never, a slot leased twice, a task in two places.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOPICS = ("task.pending", "slot.freed", "fleet.control")

Task = tuple[str, str]
Slot = tuple[str, str]


@dataclass
class Audit:
    """What one partition's journal says."""

    steps: int = 0
    #: Records ignored because their number was taken.
    fenced: int = 0
    problems: list[str] = field(default_factory=list)
    #: Offsets handled, by topic.
    handled: dict[str, list[int]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    rejected: dict[tuple[str, int], str] = field(default_factory=dict)
    #: Where each living task stands.
    tasks: dict[Task, dict[str, Any]] = field(default_factory=dict)
    finished: set[Task] = field(default_factory=set)
    slots: dict[Slot, dict[str, Any]] = field(default_factory=dict)
    #: Decisions in the order of the journal.
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def routed(self, pool: str | None = None) -> list[str]:
        """Ids of the routing decisions, of one pool or all."""
        return [
            one["decision_id"] for one in self.decisions if one["outcome"] == "routed" and pool in (None, one["pool"])
        ]


def audit(records: Iterable[bytes], expected: Mapping[str, Iterable[int]] | None = None) -> Audit:
    """Read the journal of a partition; `expected` are the offsets that its input topics hold."""
    found = Audit()
    for raw in records:
        step = json.loads(raw)
        if step["seq"] < found.steps:
            found.fenced += 1
        elif step["seq"] > found.steps:
            found.problems.append(f"step {step['seq']} follows step {found.steps - 1}")
            return found
        else:
            _apply(found, step)
            found.steps += 1
    for topic, offsets in found.handled.items():
        for offset, times in Counter(offsets).items():
            if times > 1:
                found.problems.append(f"{topic}@{offset} was handled {times} times")
        if offsets != sorted(offsets):
            found.problems.append(f"{topic} was handled out of order")
        if expected is not None:
            missing = sorted(set(expected[topic]) - set(offsets))
            if missing:
                found.problems.append(f"{topic}: {len(missing)} inputs were never handled, the first at {missing[0]}")
    _check_slots(found)
    return found


def _apply(found: Audit, step: dict[str, Any]) -> None:
    for topic, offset, _ in step.get("inputs", ()):
        found.handled[TOPICS[topic]].append(offset)
    for place, _ in step.get("advice", ()):
        if not 0 <= place < len(step["inputs"]) or step["inputs"][place][0] != 0:
            found.problems.append(f"step {step['seq']} has advice on input {place}, which is no task")
    for one in step.get("rejected", ()):
        found.rejected[TOPICS[one["topic"]], one["offset"]] = one["reason"]
    before = dict(found.tasks)
    for row in step.get("tasks", ()):
        found.tasks[row["task"]["pool"], row["task"]["task_id"]] = row["standing"]
    for row in step.get("moved", ()):
        task = (row["pool"], row["task_id"])
        if task not in found.tasks:
            found.problems.append(f"step {step['seq']} moves {task}, which is not there")
        found.tasks[task] = row["standing"]
    for row in step.get("finished", ()):
        task = (row["pool"], row["task_id"])
        found.tasks.pop(task, None)
        found.finished.add(task)
    for decision in step.get("decisions", ()):
        found.decisions.append(decision)
        if decision["outcome"] == "routed":
            _lease(found, step["seq"], decision, before)
    for row in step.get("slots", ()):
        slot = (row["pool"], row["slot_id"])
        was = found.slots.get(slot)
        if was is not None and row.get("lease", 0) < was.get("lease", 0) and row["model"] == was["model"]:
            found.problems.append(f"step {step['seq']}: the lease number of {slot} goes back")
        found.slots[slot] = row
    for pool, slot_id, *_ in step.get("slots_gone", ()):
        found.slots.pop((pool, slot_id), None)


def _lease(found: Audit, seq: int, decision: dict[str, Any], before: dict[Task, dict[str, Any]]) -> None:
    """A slot that was leased may be leased only if its holder let go of it in the same step."""
    pool = decision["pool"]
    slot = (pool, decision["chosen_slot_id"])
    was = found.slots.get(slot)
    if was is None or was["state"] != "leased":
        return
    holder = (pool, was["task_id"])
    now = found.tasks.get(holder)
    still = now is not None and now["state"] == "running" and now.get("lease") == before.get(holder, {}).get("lease")
    if still and holder != (pool, decision["task_id"]):
        found.problems.append(f"step {seq}: {slot} is leased to {decision['task_id']} while {holder[1]} holds it")


def _check_slots(found: Audit) -> None:
    holders: Counter[Slot] = Counter()
    for task, status in found.tasks.items():
        if task in found.finished and status["state"] != "waiting":
            found.problems.append(f"{task} is finished and {status['state']}")
        if status["state"] == "running":
            slot = (task[0], status["slot_id"])
            holders[slot] += 1
            row = found.slots.get(slot, {})
            if (row.get("state"), row.get("task_id")) != ("leased", task[1]):
                found.problems.append(f"{task} runs on {slot}, which does not hold it")
    for slot, count in holders.items():
        if count > 1:
            found.problems.append(f"{slot} is leased for {count} tasks at once")
