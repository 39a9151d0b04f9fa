"""A decision in progress, for tests of its parts: tasks that wait in the index, slots that the step frees."""

from __future__ import annotations

from math import inf

from schemas.decision import SlotRow
from schemas.vocabulary import Millis
from streams.core.index.pool_index import PoolIndex
from streams.core.step.draft import PoolDraft, StepDraft
from tests.support.router_rig import RouterRig


def draft_with_free(rig: RouterRig, *slot_ids: str) -> tuple[PoolDraft, PoolIndex]:
    """Give the draft of a step that announces these slots in pool main, and its aligned index."""
    router = rig.router
    pool, index = router.state.pool("main"), router.indexes["main"]
    draft = PoolDraft(pool, index, StepDraft(router.seq, inf))
    now_ms = Millis(rig.now_ms)
    for slot_id in slot_ids:
        model = slot_id.rsplit("-", 1)[0]
        draft.put_slot(SlotRow(slot_id=slot_id, pool="main", model=model, state="free", lease=0, since_ms=now_ms))
    index.begin()
    index.align(draft.fleet(), draft.in_service(), pool.percentiles, draft.marks, {}, {}, draft.slots_max, now_ms)
    return draft, index
