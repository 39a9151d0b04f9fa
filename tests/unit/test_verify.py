"""A journal derived again from its inputs: the same bytes, or the first difference as data."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.codec import write_event
from schemas.input import Misplaced, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS
from streams.core.router import Router
from streams.partition.memory import MemoryRecord
from streams.partition.reader import StepsMissing
from streams.replay.difference import Difference
from streams.replay.inputs import InputMissing
from streams.replay.verify import Verification, verify
from tests.support.builders import rulebook, task
from tests.support.router_rig import RouterRig


def history() -> RouterRig:
    """Give a history of four steps: slots, two tasks of which one waits, and the end of the first."""
    rig = RouterRig("haiku-1", book=rulebook())
    rig.hand_in(task("t-1"), after_s=1)
    rig.hand_in(task("t-2"), after_s=1)
    rig.ends("t-1", after_s=30)
    return rig


def records_of(rig: RouterRig) -> list[dict[int, MemoryRecord]]:
    """Give what the input topics hold."""
    topics: list[dict[int, MemoryRecord]] = [{} for _ in INPUT_TOPICS]
    for one in (one for batch in rig.batches for one in batch):
        assert not isinstance(one.event, Unreadable | Misplaced)
        record = write_event(INPUT_TOPICS[one.topic], one.event, ce_id="c", source="test", time_ms=one.now_ms)
        topics[one.topic][one.offset] = MemoryRecord(
            offset=one.offset, timestamp=one.now_ms, key=record.key, value=record.value
        )
    return topics


def verified(rig: RouterRig, journal: list[bytes] | None = None, **sections: Any) -> Verification:
    """Verify with the shipped rules, or changed ones."""
    records = records_of(rig)
    if journal is None:
        journal = [encode_step(step) for step in rig.steps]
    return verify(Router(0, rulebook(**sections)), enumerate(journal), records)


def test_a_journal_is_derived_again_byte_by_byte() -> None:
    """All four steps, though a fenced record stands among them."""
    rig = history()
    journal = [encode_step(step) for step in rig.steps]
    assert verified(rig, [*journal[:3], journal[1], journal[3]]) == Verification(steps=4, decisions=3)


def test_the_first_difference_is_data() -> None:
    """Number, place, both values, and the task whose decision it is."""
    rig = history()
    step = rig.steps[1]
    (decision,) = step.decisions
    rig.steps[1] = replace(step, decisions=(replace(decision, chosen_slot_id="haiku-9"),))
    found = verified(rig)
    assert (found.steps, found.decisions) == (1, 0)
    assert found.difference == Difference(
        seq=1,
        offset=1,
        path="decisions[0].chosen_slot_id",
        journaled="haiku-9",
        derived="haiku-1",
        pool="main",
        task_id="t-1",
        inputs=(("task.pending", 0, 0),),
        policy=step.policy,
        catalog=step.catalog,
    )
    assert not found.difference.is_of_rules


def test_other_rules_differ_in_their_hash_first() -> None:
    """A policy that decides the same is another policy all the same."""
    found = verified(history(), premium={"priority_min": 80}).difference
    assert found is not None
    assert (found.seq, found.path, found.is_of_rules) == (0, "policy", True)


def test_what_one_side_lacks_is_none() -> None:
    """A decision too many in the journal, and a field that only the derived step has."""
    rig = history()
    step = rig.steps[1]
    rig.steps[1] = replace(step, decisions=(*step.decisions, *step.decisions))
    found = verified(rig).difference
    assert found is not None
    assert (found.path, found.derived) == ("decisions[1]", None)
    rig.steps[1] = replace(step, decisions=())
    found = verified(rig).difference
    assert found is not None
    assert (found.path, found.derived[0]["task_id"]) == ("decisions", "t-1")


def test_a_gap_or_a_lost_input_is_an_error_not_a_difference() -> None:
    """Nothing can be said of what cannot be derived."""
    rig = history()
    journal = [encode_step(step) for step in rig.steps]
    with pytest.raises(StepsMissing, match="step 1 is missing"):
        verified(rig, [journal[0], *journal[2:]])
    records = [dict(topic) for topic in records_of(rig)]
    del records[0][1]
    with pytest.raises(InputMissing, match=r"Step 2 handled task\.pending@1"):
        verify(Router(0, rulebook()), enumerate(journal), records)
