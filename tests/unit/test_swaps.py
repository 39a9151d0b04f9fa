"""Swaps within a round: the better tier goes to the higher EV, as far as the gates of both admit."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.step.choosing import Choice
from streams.core.step.comparison import Comparison
from streams.core.step.swaps import Pair, swap
from tests.support.builders import task
from tests.support.drafts import draft_with_free
from tests.support.router_rig import RouterRig

SLOTS = ("haiku-1", "sonnet-1", "opus-1")
CASES: dict[str, tuple[dict[str, dict[str, Any]], str, str]] = {
    # The slot of each task by first letter, before and after: h, s or o.
    "the higher EV has the better one": ({"a": {"ev": 9.0}, "b": {"ev": 1.0}}, "oh", "oh"),
    "it takes it": ({"a": {"ev": 1.0}, "b": {"ev": 9.0}}, "oh", "ho"),
    "equal EVs stay": ({"a": {"ev": 5.0}, "b": {"ev": 5.0}}, "oh", "oh"),
    "an unknown EV only gives": ({"a": {}, "b": {"ev": 1.0}}, "oh", "ho"),
    "two unknown EVs stay": ({"a": {}, "b": {}}, "oh", "oh"),
    "three in a row": ({"a": {"ev": 1.0}, "b": {"ev": 5.0}, "c": {"ev": 9.0}}, "osh", "hso"),
    "not beyond its highest tier": ({"a": {"ev": 1.0}, "b": {"ev": 9.0, "max_tier": 1}}, "oh", "oh"),
    "not below the other's bar": ({"a": {"ev": 1.0, "floor_model": "opus"}, "b": {"ev": 9.0}}, "oh", "oh"),
    "by way of a third": (
        {"a": {"ev": 1.0, "floor_model": "sonnet"}, "b": {"ev": 2.0}, "c": {"ev": 9.0}},
        "osh",
        "sho",
    ),
}


@pytest.mark.parametrize(("tasks", "before", "after"), CASES.values(), ids=CASES)
def test_who_has_which_slot_after_swaps(tasks: dict[str, dict[str, Any]], before: str, after: str) -> None:
    """Pairs as the strategy cheapest_capable made them, one slot of each model; no task of a tenant with a budget."""
    rig = RouterRig()
    rig.hand_in(*(task(task_id, **named) for task_id, named in tasks.items()))
    _, index = draft_with_free(rig, *SLOTS)
    bits = {cell.model[0]: (bit, f"{cell.model}-1") for cell, bit in index.fleet.bit.items()}
    pairs = []
    for task_id, letter in zip(tasks, before, strict=True):
        entry = index.entries[task_id]
        choice = Choice(Comparison(*bits[letter], 0, "only_free"), 0, "cheapest_capable", is_second=False)
        pairs.append(Pair(entry, choice, entry.group.gates, None))
    assert not swap(pairs, index)
    assert "".join(pair.slot_id[0] for pair in pairs) == after
    assert all(index.fleet.cells[pair.bit].model[0] == pair.slot_id[0] for pair in pairs)
    index.release()
