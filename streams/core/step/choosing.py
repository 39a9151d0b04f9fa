"""The strategies: choose the slot of a task.

`cheapest_capable`: lowest admissible tier among the slots free now (for a lifted task: highest), then as `_within`.
`objective`: best score, then lowest tier, then as `_within`. `preference` and strategies of plug-ins: the first listed
model with a free slot, then the policy's default. Where a strategy raises: first in catalogue order.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from schemas.vocabulary import ReasonCode
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.step.free_view import FreeView

#: What decided between the slots that the strategy left; `catalogue`: the static fallback chose.
Because = Literal[
    "affinity_slot", "affinity_account", "only_free", "least_used", "model_share", "score", "id", "catalogue"
]  # fmt: skip


class Choice(NamedTuple):
    """A slot for a task: its cell's bit, its busy time, the strategy, and what decided between slots."""

    bit: int
    slot_id: str
    busy_ms: int
    code: ReasonCode
    because: Because


def choose(entry: Entry, mask: int, free: FreeView, index: PoolIndex) -> tuple[Choice, bool]:
    """Return the task's slot in the cells of `mask`, which all have a free one, and whether it is a second choice.

    A second choice: the strategy's first model could do the work, but is refused or busy.
    """
    if entry.shape.failed:
        return _first(mask, free), True
    try:
        choice = _by_strategy(entry, mask, free, index)
        return choice, _is_second_best(entry, choice, index)
    except Exception:  # noqa: BLE001 -- an error in a strategy must not stop the round: the static fallback decides
        return _first(mask, free), True


def _by_strategy(entry: Entry, mask: int, free: FreeView, index: PoolIndex) -> Choice:
    shape = entry.shape
    fleet = index.fleet
    for model in shape.ranking:
        if part := mask & fleet.masks_of((model,)):
            return _within(part, entry, free, index, "preference")
    strategy = shape.strategy
    if strategy not in ("objective", "cheapest_capable"):
        strategy = index.rulebook.policy.strategy.fallback
    if strategy == "objective":
        return _within(_best_scored(mask, entry, index), entry, free, index, "objective")
    lifted = entry.group.lifted
    part = tier_mask(index, mask, lifted=lifted)
    return _within(part, entry, free, index, "lifted" if lifted else "cheapest_capable")


def _is_second_best(entry: Entry, choice: Choice, index: PoolIndex) -> bool:
    group = entry.group
    shape = entry.shape
    fleet = index.fleet
    able = group.able_mask & ~shape.emergency_mask
    match choice.code:
        case "preference":
            before = shape.ranking[: shape.ranking.index(fleet.cells[choice.bit].model)]
            return able & fleet.masks_of(before) != 0
        case "objective":
            scores = index.scores(entry, able | 1 << choice.bit) or ()
            return max(score for score in scores if score is not None) != scores[fleet.model_of[choice.bit]]
        case "cheapest_capable" | "lifted":
            if shape.ranking and able & fleet.masks_of(shape.ranking):
                return True
            return not tier_mask(index, able, lifted=choice.code == "lifted") >> choice.bit & 1
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


def _within(part: int, entry: Entry, free: FreeView, index: PoolIndex, code: ReasonCode) -> Choice:
    """Choose by affinity, else by lowest busy share over 5 min of slot, then model; then by score, then by slot id."""
    task = entry.row.task
    context: Because | None = None
    if task.affinity is not None:
        if task.affinity.slot_id is not None:
            place = free.place_of(task.affinity.slot_id)
            if place is not None and part >> place[0] & 1:
                return Choice(place[0], task.affinity.slot_id, place[1], code, "affinity_slot")
        if task.affinity.account is not None:
            own = part & index.fleet.account_masks.get(task.affinity.account, 0)
            if own and own != part:
                part, context = own, "affinity_account"
    if part.bit_count() > 1:
        choice = _of_several(part, entry, free, index, code)
    else:
        bit = part.bit_length() - 1
        busy_ms, slot_id = free.least_used(bit)
        choice = Choice(bit, slot_id, busy_ms, code, "only_free" if free.counts[bit] == 1 else "least_used")
    return choice._replace(because=context) if context is not None else choice


def _of_several(part: int, entry: Entry, free: FreeView, index: PoolIndex, code: ReasonCode) -> Choice:
    """Choose between the least used slots of several cells. The last comparison that leaves some out decided."""
    found: list[tuple[int, str, int]] = []
    while part:
        bit = part.bit_length() - 1
        part ^= 1 << bit
        found.append((*free.least_used(bit), bit))
    least_ms = min(found)[0]
    alike = [(slot_id, bit) for busy_ms, slot_id, bit in found if busy_ms == least_ms]
    because: Because = "least_used" if len(alike) < len(found) else "id"
    if len(alike) > 1:
        shares = [free.share(bit) for _, bit in alike]
        left = _with(alike, shares, min(shares))
        because, alike = "model_share" if len(left) < len(alike) else because, left
    if len(alike) > 1 and len({index.fleet.cells[bit].model for _, bit in alike}) > 1:
        by_model = index.scores(entry, entry.group.mask) or ()
        scores = [by_model[index.fleet.model_of[bit]] or 0.0 for _, bit in alike]
        left = _with(alike, scores, max(scores))
        because, alike = "score" if len(left) < len(alike) else because, left
    slot_id, bit = min(alike)
    return Choice(bit, slot_id, least_ms, code, because)


def _with(slots: list[tuple[str, int]], values: list[float], value: float) -> list[tuple[str, int]]:
    """Return the slots that have the value."""
    return [slot for slot, own in zip(slots, values, strict=True) if own == value]


def _first(mask: int, free: FreeView) -> Choice:
    """Choose by the static fallback: the first capable model in catalogue order."""
    lowest = mask & -mask
    bit = lowest.bit_length() - 1
    busy_ms, slot_id = free.least_used(bit)
    return Choice(bit, slot_id, busy_ms, "router_error", "catalogue")
