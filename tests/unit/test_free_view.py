"""What is free within a step: slots of the state, slots that the step frees, and none that was taken."""

from __future__ import annotations

import pytest

from streams.core.index.fleet import Cell
from streams.core.step.free_view import FreeView
from tests.support.drafts import draft_with_free
from tests.support.router_rig import RouterRig


@pytest.mark.parametrize(
    ("in_state", "freed", "taken", "counts"),
    [
        (["opus-1"], [], ["opus-1"], {"opus": 0}),
        (["haiku-1"], ["haiku-2", "opus-1"], [], {"haiku": 2, "opus": 1}),
        (["haiku-1", "haiku-2"], [], ["haiku-1"], {"haiku": 1}),
        (["haiku-1"], ["haiku-2"], ["haiku-2", "haiku-1"], {"haiku": 0}),
    ],
)
def test_free_slots_by_model(in_state: list[str], freed: list[str], taken: list[str], counts: dict[str, int]) -> None:
    """The least used is found among those that are left; after the decision all are free again."""
    rig = RouterRig(*in_state)
    for _ in range(2):
        draft, index = draft_with_free(rig, *freed)
        view = FreeView(draft, rig.router.now_ms)
        bit_of = {cell.model: bit for cell, bit in index.fleet.bit.items()}
        for slot_id in taken:
            view.take(bit_of[slot_id.rsplit("-", 1)[0]], slot_id)
        assert {model: view.counts[bit] for model, bit in bit_of.items()} == counts
        assert view.mask == sum(1 << bit_of[model] for model, count in counts.items() if count)
        assert view.single() == sum(1 << bit_of[model] for model, count in counts.items() if count == 1)
        left = sorted({*in_state, *freed} - {*taken})
        for model, bit in bit_of.items():
            own = [slot_id for slot_id in left if slot_id.startswith(model)]
            assert not own or view.least_used(bit) == (0, own[0])
        assert all(view.bit_of(slot_id) is None for slot_id in taken)
        assert all(view.bit_of(slot_id) is not None for slot_id in left)
        index.release()


def test_the_model_that_was_free_longest() -> None:
    """The status quo takes the slot that has been free longest: of the state before the step's own."""
    rig = RouterRig("opus-1")
    rig.hand_in(after_s=5)
    draft, index = draft_with_free(rig, "haiku-1")
    view = FreeView(draft, rig.router.now_ms)
    both = (1 << len(index.fleet.cells)) - 1
    assert view.next_free_model(both) == "opus"
    view.take(index.fleet.bit[Cell("opus", None)], "opus-1")
    assert view.next_free_model(both) == "haiku"
    assert view.next_free_model(0) is None
    index.release()
