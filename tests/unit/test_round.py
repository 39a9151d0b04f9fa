"""A round: who is served in which order, and which slot each takes."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.step.round import Round
from tests.support.builders import task
from tests.support.drafts import draft_with_free
from tests.support.router_rig import RouterRig

CASES: dict[str, tuple[dict[str, dict[str, Any]], list[str], list[tuple[str, str]]]] = {
    "priority": ({"a": {"priority": 40}, "b": {"priority": 60}}, ["haiku-1"], [("b", "haiku-1")]),
    "then EV": ({"a": {"ev": 1.0}, "b": {"ev": 2.0}, "c": {}}, ["haiku-1"], [("b", "haiku-1")]),
    "then id": ({"b": {}, "a": {}}, ["haiku-1", "haiku-2"], [("a", "haiku-1"), ("b", "haiku-2")]),
    "lowest tier": ({"a": {}}, ["opus-1", "haiku-1"], [("a", "haiku-1")]),
    "a lifted task is first, from the highest tier down": (
        {"a": {"priority": 90}, "quest": {"quest_priority": 95, "priority": 10}},
        ["opus-1", "haiku-1"],
        [("quest", "opus-1"), ("a", "haiku-1")],
    ),
    "then the task with one admissible slot": (
        {"any": {"priority": 90}, "only": {"max_tier": 1}},
        ["haiku-1", "opus-1"],
        [("only", "haiku-1"), ("any", "opus-1")],
    ),
    "no admissible slot": ({"a": {"max_tier": 1}}, ["opus-1"], []),
    "more tasks than slots": ({"a": {}, "b": {}, "c": {}}, ["haiku-1"], [("a", "haiku-1")]),
}


@pytest.mark.parametrize(("tasks", "slots", "served"), CASES.values(), ids=CASES)
def test_a_round(tasks: dict[str, dict[str, Any]], slots: list[str], served: list[tuple[str, str]]) -> None:
    """Tasks wait in the index, the slots come free in the step; a decision that was undone is decided as before."""
    rig = RouterRig()
    rig.hand_in(*(task(task_id, **named) for task_id, named in tasks.items()))
    for _ in range(2):
        draft, index = draft_with_free(rig, *slots)
        turn = Round(draft, [], rig.router.now_ms)
        assert [(pair.entry.task_id, pair.slot_id) for pair in turn.pairs()] == served
        assert turn.free_mask.bit_count() == len({slot.rsplit("-", 1)[0] for slot in slots}) - (
            len({slot.rsplit("-", 1)[0] for _, slot in served})
        )
        index.release()
        assert not any(entry.taken for entry in index.entries.values())
