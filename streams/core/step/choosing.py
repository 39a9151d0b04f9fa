"""The strategies: choose the slot of a task.

`cheapest_capable`: lowest admissible tier among the slots free now (for a lifted task: highest), then as `compare`
(`comparison.py`). `objective`: best score, then lowest tier, then as `compare`. `preference` and strategies of
plug-ins: the first listed model with a free slot, then the policy's default. Where a strategy raises: first in
catalogue order.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.vocabulary import ReasonCode
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.step.comparison import Comparison, against_its_own, compare
from streams.core.step.free_view import FreeView


class Choice(NamedTuple):
    """A slot for a task: its busy time, the strategy, and what decided between slots."""

    found: Comparison
    busy_ms: int
    code: ReasonCode
    #: A second choice: the strategy's first model could do the work, but is refused or busy.
    is_second: bool


def choose(entry: Entry, mask: int, free: FreeView, index: PoolIndex) -> Choice:
    """Take the task's slot in the cells of `mask`, which all have a free one."""
    code: ReasonCode = "router_error"
    is_second = True
    found = None
    if not entry.shape.failed:
        try:
            code, part = _by_strategy(entry, mask, index)
            found = compare(part, entry, free, index)
            is_second = _is_second_best(entry, code, found.bit, index)
        except Exception:  # noqa: BLE001 -- an error in a strategy must not stop the round: the static fallback decides
            code, is_second, found = "router_error", True, None
    found = found or _first(mask, free)
    busy_ms = free.busy_ms(found.slot_id)
    free.take(found.bit, found.slot_id)
    found = against_its_own(found, free, index)
    return Choice(found, busy_ms, code, is_second)


def _by_strategy(entry: Entry, mask: int, index: PoolIndex) -> tuple[ReasonCode, int]:
    """Return the reason code, and the cells that the strategy leaves."""
    shape = entry.shape
    fleet = index.fleet
    for model in shape.ranking:
        if part := mask & fleet.masks_of((model,)):
            return "preference", part
    strategy = shape.strategy
    if strategy not in ("objective", "cheapest_capable"):
        strategy = index.rulebook.policy.strategy.fallback
    if strategy == "objective":
        return "objective", _best_scored(mask, entry, index)
    lifted = entry.group.lifted
    return "lifted" if lifted else "cheapest_capable", tier_mask(index, mask, lifted=lifted)


def _is_second_best(entry: Entry, code: ReasonCode, bit: int, index: PoolIndex) -> bool:
    group = entry.group
    if group.gave_way:
        return True
    shape = entry.shape
    fleet = index.fleet
    able = group.able_mask & ~shape.emergency_mask
    match code:
        case "preference":
            before = shape.ranking[: shape.ranking.index(fleet.cells[bit].model)]
            return able & fleet.masks_of(before) != 0
        case "objective":
            scores = index.scores(entry, able | 1 << bit) or ()
            return max(score for score in scores if score is not None) != scores[fleet.model_of[bit]]
        case "cheapest_capable" | "lifted":
            if shape.ranking and able & fleet.masks_of(shape.ranking):
                return True
            return not tier_mask(index, able, lifted=code == "lifted") >> bit & 1
        case _:
            return True


def tier_mask(index: PoolIndex, mask: int, *, lifted: bool) -> int:
    """Return the cells in `mask` of its lowest tier; for a lifted task of its highest."""
    tiers = index.fleet.tiers_up
    for tier in reversed(tiers) if lifted else tiers:
        if tier & mask:
            return tier & mask
    return 0


def _best_scored(mask: int, entry: Entry, index: PoolIndex) -> int:
    fleet = index.fleet
    scores = index.scores(entry, entry.group.mask) or ()
    free = [(-(score or 0.0), i) for i, score in enumerate(scores) if fleet.model_masks[i] & mask]
    best = min(free)[0]
    alike = sum(fleet.model_masks[i] for score, i in free if score == best)
    return tier_mask(index, alike & mask, lifted=False)


def _first(mask: int, free: FreeView) -> Comparison:
    """Choose by the static fallback: the first capable model in catalogue order."""
    lowest = mask & -mask
    bit = lowest.bit_length() - 1
    step, slot_id = free.least_used(bit)
    return Comparison(bit, slot_id, step, "catalogue")
