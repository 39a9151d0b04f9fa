"""One partition verified from what is recorded of it: spans, snapshots, inputs that are gone, activated policies."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import PolicyActivated
from schemas.input import NOT_DECIDED, Input, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import Millis, from_millis
from streams.commands import replay_text
from streams.commands.console import out
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.operate.moments import MomentError
from streams.operate.spans import span_of
from streams.operate.verifying import report_of
from streams.partition.ports import Checkpoint, JournalPosition
from streams.replay.partition_run import PartitionRun, Verified
from streams.replay.span import Span
from streams.shipped import shipped
from tests.support.builders import START_MS, rulebook, task
from tests.support.recorded import Recorded, TakenSnapshots
from tests.support.router_rig import RouterRig


def activation() -> PolicyActivated:
    """Give the event that puts another policy in force: a lower priority is premium."""
    catalog, policy = (
        shipped("catalog.toml"),
        shipped("policy.toml").replace("\npriority_min = 90", "\npriority_min = 80"),
    )
    book = load_rulebook(catalog, policy)
    return PolicyActivated(
        control_id="c-policy",
        at=from_millis(START_MS),
        by="ops",
        policy=book.policy_hash,
        catalog=book.catalog_hash,
        policy_text=policy,
        catalog_text=catalog,
    )


def history() -> RouterRig:
    """Give a history of six steps; step 3 puts another policy in force."""
    rig = RouterRig("haiku-1", "opus-1", book=rulebook())
    rig.hand_in(task("t-1"), after_s=1)
    rig.hand_in(task("t-2"), after_s=1)
    rig.hand_in(activation(), after_s=1)
    rig.hand_in(task("t-3", priority=85), after_s=1)
    rig.ends("t-1", after_s=30)
    return rig


async def verified(recorded: Recorded, span: Span | None = None, book: Rulebook | None = None) -> Verified:
    """Verify what is recorded."""
    run = PartitionRun(recorded.source, book or rulebook(), lambda _: 0, span or Span())
    async for _ in run.stretches():
        pass
    return run.found


def snapshot_before(rig: RouterRig, seq: int) -> Checkpoint:
    """Give a snapshot of the state before a step, as the worker saves it."""
    router = Router(0, rig.book)
    for step in rig.steps[:seq]:
        router.apply(step)
    return Checkpoint(position=JournalPosition(seq, seq), at_ms=rig.now_ms, chunks=tuple(router.snapshot()))


async def test_a_journal_is_the_same_through_an_activated_policy() -> None:
    """The rules in force are named with their first step."""
    rig = history()
    found = await verified(Recorded(rig))
    assert found.same
    assert (found.first_seq, found.next_seq, found.steps) == (0, 6, 6)
    assert found.decisions == sum(len(step.decisions) for step in rig.steps)
    assert [(one.seq, one.activated) for one in found.rules] == [(0, False), (3, True)]
    assert found.rules[1].policy == rig.steps[3].policy


async def test_a_span_by_numbers_derives_only_its_steps_and_asks_for_no_other_input() -> None:
    """What stands before it is followed, and its inputs may be gone."""
    recorded = Recorded(history())
    recorded.inputs[0].cut(1)
    found = await verified(recorded, Span(since_seq=2, until_seq=4))
    assert (found.same, found.first_seq, found.next_seq, found.steps, found.followed) == (True, 2, 5, 3, 2)
    assert found.without_inputs == 0


async def test_a_span_by_times() -> None:
    """A time between two steps begins with the later one; one behind the last step ends nothing."""
    found = await verified(Recorded(history()), Span(since_ms=START_MS + 1_500, until_ms=START_MS + 4_000))
    assert (found.first_seq, found.next_seq, found.followed) == (2, 5, 2)


async def test_a_cut_journal_begins_at_the_oldest_snapshot_that_it_reaches() -> None:
    """With the policy that was activated before."""
    rig = history()
    recorded = Recorded(rig)
    recorded.journal.log.cut(2)
    recorded.snapshots = TakenSnapshots(snapshot_before(rig, 5), snapshot_before(rig, 4), snapshot_before(rig, 1))
    found = await verified(recorded)
    assert (found.same, found.first_seq, found.next_seq) == (True, 4, 6)
    recorded.snapshots = TakenSnapshots(snapshot_before(rig, 5), snapshot_before(rig, 1))
    found = await verified(recorded, Span(since_seq=4))
    assert found.problem is not None
    assert "from step 5 on" in found.problem


async def test_a_span_begins_at_the_newest_snapshot_before_it() -> None:
    """So that little is followed."""
    rig = history()
    recorded = Recorded(rig)
    recorded.snapshots = TakenSnapshots(snapshot_before(rig, 5), snapshot_before(rig, 3), snapshot_before(rig, 1))
    found = await verified(recorded, Span(since_seq=4))
    assert (found.same, found.first_seq, found.followed) == (True, 4, 1)


async def test_steps_whose_inputs_retention_has_taken_are_followed_and_counted() -> None:
    """The rest is derived."""
    recorded = Recorded(history())
    recorded.inputs[1].cut(2)
    found = await verified(recorded)
    assert (found.same, found.without_inputs, found.first_seq, found.steps) == (True, 1, 1, 5)


async def test_an_input_that_was_lost_otherwise_is_a_problem() -> None:
    """A topic that lacks a record in its middle is not that of the journal."""
    recorded = Recorded(history())
    del recorded.inputs[0].records[1]
    found = await verified(recorded)
    assert found.problem is not None
    assert found.problem.startswith("Step 2 handled task.pending@1, which the records do not hold. Retention has not")
    assert (found.same, found.next_seq) == (False, 2)


async def test_the_first_difference_is_shown_with_both_sides() -> None:
    """Step, offset, inputs, task, place, and that another version may have written it."""
    rig = history()
    step = rig.steps[1]
    (decision,) = step.decisions
    rig.steps[1] = replace(step, decisions=(replace(decision, chosen_slot_id="haiku-9"),))
    found = await verified(Recorded(rig))
    with out.capture() as captured:
        out.print(replay_text.render(report_of([found], rulebook(), seconds=1.0)))
    shown = captured.get()
    assert "Partition 0 differs first in step 1 (offset 1 of the journal; inputs task.pending@0)" in shown
    assert "task       t-1 of pool main" in shown
    assert "at         decisions[0].chosen_slot_id" in shown
    assert 'journaled  "haiku-9"' in shown
    assert 'derived    "haiku-1"' in shown
    assert "does not say which slotwise wrote it" in shown
    assert "Not the same: 1 steps with 0 decisions" in shown


async def test_other_rules_are_named_with_what_to_do() -> None:
    """Both hashes, and the options."""
    found = await verified(Recorded(history()), book=rulebook(premium={"priority_min": 20}))
    assert found.difference is not None
    with out.capture() as captured:
        out.print(replay_text.render(report_of([found], rulebook(premium={"priority_min": 20}), seconds=1.0)))
    assert f"Policy {found.difference.policy}" in captured.get()
    assert "name the files that decided with --policy and --catalog" in captured.get()


async def test_a_router_that_fails_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says that it did not fail."""
    rig = history()

    def fails(*_: object) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr(Router, "handle", fails)
    found = await verified(Recorded(rig))
    assert found.difference is not None
    assert (found.difference.path, found.difference.derived) == ("", "the router failed: ValueError('on purpose')")


async def test_an_input_on_which_the_router_had_failed_is_refused_again() -> None:
    """The worker gave it to the router as unreadable; the record itself can be read."""
    rig = RouterRig("haiku-1", book=rulebook())
    recorded = Recorded(rig)
    at_ms = Millis(rig.now_ms + 1)
    step = rig.router.handle([Input(0, 0, at_ms, Unreadable(f"{NOT_DECIDED}the router failed on it."))])
    recorded.journal.log.append(encode_step(step))
    other = RouterRig("haiku-1", book=rulebook())
    other.hand_in(task("t-1"))
    recorded.inputs[0] = Recorded(other).inputs[0]
    found = await verified(recorded)
    assert (found.same, found.steps) == (True, 2)


def test_ends_of_a_span_are_numbers_or_times() -> None:
    """A word is neither."""
    now_ms = Millis(START_MS + 3_600_000)
    assert span_of("17", "1h", now_ms) == Span(since_seq=17, until_ms=START_MS)
    assert span_of(None, "20", now_ms) == Span(until_seq=20)
    with pytest.raises(MomentError):
        span_of("yesterday", None, now_ms)
