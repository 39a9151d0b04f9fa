"""The auditor finds what is wrong with a journal: each promise is broken by hand, and must be reported by its name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from schemas.events import BudgetCredited
from schemas.skips import Skip, encode_skip
from schemas.steps import encode_step
from streams.audit.agreement import DEAD_LETTERS, JournalCounts, published, stored
from streams.audit.checkpoint_state import holds_state_of
from streams.audit.handled import Handled
from streams.audit.journal import PROBLEMS_MAX, JournalAudit
from streams.audit.problem import PROMISES, Problem
from streams.core.router import Router
from streams.partition.memory import MemoryJournal
from streams.partition.ports import Checkpoint, JournalPosition
from streams.partition.skips import hash_of
from tests.support.builders import rulebook, task
from tests.support.router_rig import RouterRig, at

DAY_MS = 24 * 3_600_000
AGEING_MS = 1_000
RECORDED = Path(__file__).parents[1] / "data" / "journals_v1.jsonl.gz"

Steps = list[dict[str, Any]]


def history() -> Steps:
    """Give a journal as JSON: two slots, a paying tenant, three tasks of which the last waits, and the end of one."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(
        BudgetCredited(control_id="c-1", by="billing", at=rig.at, pool="main", tenant_id="acme", amount_usd=1.0)
    )
    for number in (1, 2, 3):
        rig.hand_in(task(f"t-{number}", tenant_id="acme", input_tokens=1000, output_tokens=100), after_s=1)
    rig.ends("t-1", after_s=30)
    return [json.loads(encode_step(step)) for step in rig.steps]


def waits() -> Steps:
    """Give a journal of one slot: a task runs, one waits, one comes long after; then the one that waited is served."""
    rig = RouterRig("haiku-1", book=rulebook(service={"ageing_s_per_point": AGEING_MS / 1000}))
    rig.hand_in(task("a"), after_s=1)
    rig.hand_in(task("old"), after_s=1)
    rig.hand_in(at(task("young"), rig.now_ms + 150_000), after_s=150)
    rig.ends("a", after_s=10)
    return [json.loads(encode_step(step)) for step in rig.steps]


def audited(steps: Steps, *, memory_ms: int = DAY_MS) -> JournalAudit:
    """Audit these steps."""
    audit = JournalAudit(0, memory_ms=memory_ms, ageing_ms=AGEING_MS, patience_points=150)
    for step in steps:
        audit.add(json.dumps(step).encode())
    return audit


def found(steps: Steps) -> list[tuple[str, int | None]]:
    """Promise and step of each problem."""
    return [(one.promise, one.seq) for one in audited(steps).problems]


def test_a_sound_journal_has_no_problem() -> None:
    """And is counted right."""
    audit = audited(history())
    assert audit.problems == []
    assert (audit.steps, audit.fenced, audit.whole) == (6, 0, True)
    assert audit.decisions == {"routed": 3, "waiting": 1}
    assert audit.handled["task.pending"].count == 3
    assert set(audit.tasks) == {("main", "t-2"), ("main", "t-3")}


class Damage(Struct, frozen=True):
    """What is done to the journal, and what must be reported."""

    do: Callable[[Steps], Any]
    want: tuple[str, int | None]
    #: A part of the sentence.
    says: str
    of: Callable[[], Steps] = history


def lease_twice(steps: Steps) -> None:
    """The third task gets the slot of the second one, which goes on running there."""
    (routed,) = steps[3]["decisions"]
    (row,) = steps[3]["slots"]
    steps[4]["decisions"] = [{**routed, "task_id": "t-3", "lease": routed["lease"] + 1}]
    steps[4]["slots"] = [{**row, "task_id": "t-3", "lease": row["lease"] + 1}]
    status = steps[4]["tasks"][0]["standing"]
    status |= {"state": "running", "slot_id": row["slot_id"], "lease": row["lease"] + 1}


def accept_again(steps: Steps) -> None:
    """A task that is over comes once more, half a minute later."""
    now_ms = [step["now_ms"] for step in steps]
    steps[4]["finished"] = [{"pool": "main", "task_id": "t-9", "at_ms": now_ms[4], "what": "done"}]
    standing = {"state": "waiting", "accepted_ms": now_ms[5]}
    steps[5]["tasks"] = [{"task": {"pool": "main", "task_id": "t-9"}, "standing": standing}]


def serve_the_young(steps: Steps) -> None:
    """The slot that comes free is given to the task that came last."""
    last = steps[4]
    for row in (last["decisions"][0], last["moved"][0], last["slots"][0]):
        assert row["task_id"] == "old"
        row["task_id"] = "young"
    last["decisions"][0] |= {name: steps[3]["decisions"][0][name] for name in ("at_ms", "waiting_since_ms")}


def keep_free(steps: Steps) -> None:
    """The slot that comes free is given to no one."""
    steps[4]["slots"][0] |= {"state": "free", "lease": 1}
    for name in ("decisions", "moved"):
        del steps[4][name]


def free_a_slot(steps: Steps) -> None:
    """A slot is free after the step by which a task waits for it."""
    steps[3]["slots"] = [{**steps[0]["slots"][0], "lease": 1}]


DAMAGES: dict[str, Damage] = {
    "a task that has waited long is passed over": Damage(
        serve_the_young, ("service", 4), "young of pool main is served by haiku with 60 points before old", waits
    ),
    "a slot stays free beside a task that waits": Damage(
        keep_free, ("idle", 4), "haiku-1 of pool main is free beside old, which waits and may use haiku", waits
    ),
    "a task waits beside a free slot that it may use": Damage(
        free_a_slot, ("idle", 3), "haiku-1 of pool main is free beside young", waits
    ),
    "a step is left out": Damage(lambda s: s.pop(3), ("journal", 4), "step 4 follows step 2"),
    "a record is no step": Damage(lambda s: s.insert(3, {}), ("journal", None), "is no step"),
    "a step lacks what it must have": Damage(lambda s: s[3]["slots"][0].pop("pool"), ("journal", 3), "cannot be read"),
    "a record is of another partition": Damage(
        lambda s: s.insert(3, {**s[3], "partition": 1}), ("journal", None), "is of partition 1"
    ),
    "a slot is leased twice": Damage(lease_twice, ("lease", 4), "while t-2 runs on it"),
    "a lease number is left out": Damage(
        lambda s: s[3]["decisions"][0].update(lease=7), ("lease", 3), "is leased under 7 after 0"
    ),
    "a slot's lease number goes back": Damage(
        lambda s: s[5]["slots"][0].update(lease=1, state="free"), ("lease", 5), "has lease 1"
    ),
    "a task runs on a slot that is free": Damage(
        lambda s: s[3]["slots"][0].update(state="free"), ("lease", 3), "is not leased to it"
    ),
    "a slot is leased to a task that is not there": Damage(
        lambda s: s[3].pop("tasks"), ("lease", 3), "which does not run on it"
    ),
    "a task changes that was never accepted": Damage(
        lambda s: s[2].update(moved=[{"pool": "main", "task_id": "t-9", "standing": {"state": "waiting"}}]),
        ("conservation", 2),
        "t-9 of pool main changes",
    ),
    "advice on what is no task": Damage(
        lambda s: s[0].update(advice=[[0, {}]]), ("conservation", 0), "advice on input 0"
    ),
    "an input is handled twice": Damage(
        lambda s: s[3]["inputs"].append(s[2]["inputs"][0]), ("once", 3), "task.pending@0 was handled twice"
    ),
    "a task is accepted twice": Damage(
        lambda s: s[4]["tasks"].append(s[3]["tasks"][0]), ("once", 4), "is accepted while it lives"
    ),
    "a finished task is accepted again": Damage(accept_again, ("once", 5), "is accepted again"),
    "a lease outlives its end": Damage(
        lambda s: s[3]["slots"][0].update(lease_expires_at_ms=s[4]["now_ms"]), ("expiry", 4), "beyond the end"
    ),
    "a control is taken twice": Damage(
        lambda s: s[2].update(controls=s[1]["controls"]), ("controls", 2), "was taken twice"
    ),
    "a ledger does not add up": Damage(
        lambda s: s[2]["ledgers"][0].update(available_uusd=5), ("money", 2), "available + reserved + consumed"
    ),
    "a movement is not in the ledger": Damage(
        lambda s: s[3]["money"].pop(), ("money", 3), "the movements come to"
    ),
    "a settlement of what was never reserved": Damage(
        lambda s: s[2]["money"].append({**s[2]["money"][0], "kind": "settle", "decision_id": "d-9"}),
        ("money", 2),
        "which reserved nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", [pytest.param(one, id=name) for name, one in DAMAGES.items()])
def test_what_is_wrong_is_reported_with_its_promise_and_its_step(damage: Damage) -> None:
    """Among what else follows from it."""
    steps = damage.of()
    damage.do(steps)
    problems = audited(steps).problems
    named = [one.says for one in problems if (one.promise, one.seq) == damage.want]
    assert any(damage.says in says for says in named), problems


def test_every_promise_about_the_journal_is_broken_here_once() -> None:
    """What needs the parts outside is broken in tests/integration/test_audit.py."""
    assert {damage.want[0] for damage in DAMAGES.values()} == set(PROMISES) - {
        "stored",
        "chain",
        "published",
        "derived",
        "state",
    }


def test_waiting_tasks_that_are_served_in_order_are_no_problem() -> None:
    """The history that is damaged above; and a policy that is activated says how tasks age from then on."""
    assert audited(waits()).problems == []
    steps = waits()
    serve_the_young(steps)
    for text in ("[service]\nageing_s_per_point = 1000\npatience_points = 150", "no policy"):
        changed = [dict(step) for step in steps]
        changed[1] |= {"activated": {"policy_text": text, "finished_memory_ms": DAY_MS}}
        assert "service" not in {promise for promise, _ in found(changed)}


def journal_of(*values: bytes) -> MemoryJournal:
    """Give a journal of these records."""
    journal = MemoryJournal()
    for value in values:
        journal.log.append(value)
    return journal


def checkpoint_of(router: Router, offset: int) -> Checkpoint:
    """Give a checkpoint of a router's state, taken before the record at an offset."""
    return Checkpoint(position=JournalPosition(offset, router.seq), at_ms=0, chunks=tuple(router.snapshot()))


async def test_a_checkpoint_is_compared_with_the_steps_before_it() -> None:
    """The state of the same steps is the same bytes; one that lacks a step, or has another row, is not."""
    rig = RouterRig("haiku-1", "haiku-2")
    for number in range(3):
        rig.hand_in(task(f"t-{number}"), after_s=1)
    values = [encode_step(step) for step in rig.steps]
    taken = checkpoint_of(rig.router, len(values))
    assert await holds_state_of(rig.book, 0, taken, journal_of(*values))
    other = RouterRig("haiku-1", "haiku-2")
    for number in (0, 1, 7):
        other.hand_in(task(f"t-{number}"), after_s=1)
    assert not await holds_state_of(rig.book, 0, checkpoint_of(other.router, len(values)), journal_of(*values))
    assert not await holds_state_of(rig.book, 0, taken, journal_of(*values[:-1]))


async def test_a_checkpoint_is_compared_also_where_an_operator_passes_over_a_record() -> None:
    """The note stands behind the checkpoint, so that it is looked for there."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), after_s=1)
    values, foreign = [encode_step(step) for step in rig.steps], b"of a test producer"
    note = Skip(skip=1, partition=0, sha256=hash_of(foreign), reason="known", by="ops", at="now")
    journal = journal_of(values[0], foreign, *values[1:], encode_skip(note))
    assert await holds_state_of(rig.book, 0, checkpoint_of(rig.router, len(values) + 1), journal)


def test_a_fenced_record_is_ignored_and_counted() -> None:
    """Whatever it says."""
    steps = history()
    audit = audited([*steps[:4], {**steps[2], "decisions": []}, *steps[4:]])
    assert (audit.problems, audit.steps, audit.fenced) == ([], 6, 1)


def test_of_a_journal_that_was_cut_only_what_can_be_known_is_checked() -> None:
    """Wherever it begins, a sound journal is sound; and what is wrong after that is found."""
    steps = history()
    for first in range(1, len(steps)):
        audit = audited(steps[first:])
        assert (audit.problems, audit.whole) == ([], False)
    lease_twice(steps)
    assert ("lease", 4) in found(steps[2:])


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_every_recorded_history_is_sound(cut: int) -> None:
    """Journals of layout 1 included, whole and without their first steps."""
    for line in gzip.decompress(RECORDED.read_bytes()).splitlines():
        history = json.loads(line)
        audit = JournalAudit(0, memory_ms=DAY_MS)
        for value in history["steps"][cut:]:
            audit.add(value.encode())
        assert audit.problems == [], history["history"]


def test_inputs_that_no_step_handled_are_reported() -> None:
    """Before, between and after those that were; the first one is named."""
    audit = audited([step for step in history() if step["seq"] != 99])
    audit.expect({"task.pending": [0, 1, 2], "fleet.control": []})
    assert audit.problems == []
    audit.expect({"task.pending": [0, 1, 2, 3, 4]})
    assert audit.problems == [
        Problem(
            promise="conservation",
            says="task.pending: 2 inputs were never handled, the first at 3",
            partition=0,
        )
    ]


def test_handled_offsets_are_a_range_with_holes() -> None:
    """An offset that is not behind all others is refused; a hole is no handled offset."""
    handled = Handled()
    assert handled.lacking([0]) == [0]
    assert [handled.add(offset) for offset in (3, 4, 8, 8, 5, 9)] == [True, True, True, False, False, True]
    assert handled.holes == [range(5, 8)]
    assert handled.lacking(range(12)) == [0, 1, 2, 5, 6, 7, 10, 11]
    assert handled.count == 4


def test_problems_are_bounded() -> None:
    """A journal in which everything is wrong does not fill the memory; all are counted."""
    audit = JournalAudit(0)
    for _ in range(PROBLEMS_MAX + 5):
        audit.add(b"nothing")
    assert (len(audit.problems), audit.problems_total) == (PROBLEMS_MAX, PROBLEMS_MAX + 5)


def test_numbers_that_must_be_equal_are_named_when_they_are_not() -> None:
    """Fewer rows or records are a loss; more records are repetitions."""
    counts = JournalCounts(
        steps=2, decisions={"routed": 3, "waiting": 1, "dead_lettered": 1}, dead_letters=1, stopped=1, ended=2
    )
    assert list(stored(counts, steps=2, decisions=5)) == []
    assert len(list(stored(counts, steps=1, decisions=6))) == 2
    enough = {"task.routed": 4, "task.await_slot": 1, "task.cancelled": 1, "task.finished": 2, DEAD_LETTERS: 1}
    assert list(published(counts, enough)) == []
    assert list(published(counts, {**enough, "task.await_slot": 0})) == [
        "The journal has 1 records for task.await_slot, which hold 0."
    ]
