"""Compares the free slots that a strategy left, and says what decided.

First comes context: the slot that has it, else the slots of the account that has it. Then use over the last 5 min, in
steps: the slot's, then that of all slots of its model. Then the estimated cost, the score, and the slot id.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final, NamedTuple

from schemas.vocabulary import Decisive
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import Entry
from streams.core.state.utilisation import SHORT_MS
from streams.core.step.free_view import FreeView

#: By model of the fleet: what put its best slot behind the chosen one; None: it was not compared, or is the chosen.
Behind = tuple[Decisive | None, ...]
#: The best slot of a model: place of the model in the fleet, step of use, slot id, bit.
_Best = tuple[int, int, str, int]
#: In the order of comparison.
_KEYS: Final[tuple[Decisive, ...]] = ("least_used", "model_share", "cost", "score", "id")


class Rival(NamedTuple):
    """The best slot that was not chosen, and what the two have of what decided; None: an unknown price."""

    slot_id: str
    model: str
    own: float | None
    other: float | None


class Comparison(NamedTuple):
    """The chosen slot: its cell's bit, its id, its step of use, and what decided."""

    bit: int
    slot_id: str
    step: int
    because: Decisive
    rival: Rival | None = None
    #: The cells that were compared; `by_account`: its context under an account left others out.
    near: int = 0
    by_account: bool = False
    behind: Behind = ()


def compare(part: int, entry: Entry, free: FreeView, index: PoolIndex) -> Comparison:
    """Choose among the free slots of the cells in `part`. The reason is what put the best other model's slot behind.

    Where one model only is left it is the reason of the moment: `against_its_own` completes it.
    """
    fleet, task = index.fleet, entry.row.task
    near, by_account = part, False
    alone = part.bit_count() == 1 and free.counts[part.bit_length() - 1] == 1
    if task.affinity is not None and not alone:
        if task.affinity.slot_id is not None:
            bit = free.bit_of(task.affinity.slot_id)
            if bit is not None and part >> bit & 1:
                behind = _behind(dict.fromkeys(_models(part, index), "affinity_slot"), fleet.model_of[bit], index)
                return Comparison(bit, task.affinity.slot_id, 0, "affinity_slot", behind=behind)
        if task.affinity.account is not None:
            own = part & fleet.account_masks.get(task.affinity.account, 0)
            if own and own != part:
                near, by_account = own, True
    best: dict[int, _Best] = {}
    mask = near
    while mask:
        bit = mask.bit_length() - 1
        mask ^= 1 << bit
        found = (fleet.model_of[bit], *free.least_used(bit), bit)
        known = best.get(found[0])
        if known is None or found < known:
            best[found[0]] = found
    lost: dict[int, Decisive] = dict.fromkeys(_models(part ^ near, index), "affinity_account") if by_account else {}
    if len(best) == 1:
        ((_, step, slot_id, bit),) = best.values()
        because: Decisive = "affinity_account" if by_account else "only_free"
        behind = _behind(lost, fleet.model_of[bit], index) if lost else ()
        return Comparison(bit, slot_id, step, because, None, near, by_account, behind)
    (of, step, slot_id, bit), because, rival = _of_models(list(best.values()), lost, entry, free, index)
    return Comparison(bit, slot_id, step, because, rival, near, by_account, _behind(lost, of, index))


def against_its_own(chosen: Comparison, free: FreeView, index: PoolIndex) -> Comparison:
    """Return the reason against the best other slot, where all slots left are of one model; the chosen one is taken."""
    if chosen.because not in ("only_free", "affinity_account"):
        return chosen
    others = [free.least_used(bit) for bit in range(len(free.counts)) if chosen.near >> bit & 1 and free.counts[bit]]
    if not others:
        return chosen
    step, slot_id = min(others)
    model = index.fleet.cells[chosen.bit].model
    own, other = free.busy_ms(chosen.slot_id) / SHORT_MS, free.busy_ms(slot_id) / SHORT_MS
    because: Decisive = "least_used" if step > chosen.step else "id"
    return chosen._replace(because=because, rival=Rival(slot_id, model, own, other))


def _of_models(
    left: list[_Best], lost: dict[int, Decisive], entry: Entry, free: FreeView, index: PoolIndex
) -> tuple[_Best, Decisive, Rival]:
    """Return the best slot, what decided against the last other, and that one; `lost` gets what each other lost by."""
    because: Decisive = "id"
    other = left[0]
    for key in _KEYS:
        values = _values(key, left, entry, free, index)
        least = min(values)
        if values.count(least) == len(left):
            continue
        out = [(value, one) for value, one in zip(values, left, strict=True) if value != least]
        for _, one in out:
            lost[one[0]] = key
        because, other = key, min(out)[1]
        left = [one for value, one in zip(values, left, strict=True) if value == least]
        if len(left) == 1:
            break
    best, models = left[0], index.fleet.models
    of_best, of_other = _shown(because, best, entry, free, index), _shown(because, other, entry, free, index)
    return best, because, Rival(other[2], models[other[0]], of_best, of_other)


def _values(key: Decisive, slots: list[_Best], entry: Entry, free: FreeView, index: PoolIndex) -> list[Any]:
    """Return what is compared, the least first."""
    match key:
        case "least_used":
            return [step for _, step, _, _ in slots]
        case "model_share":
            models = index.fleet.models
            return [free.model_step(models[place]) for place, _, _, _ in slots]
        case "cost":
            costs = [index.cost_uusd(entry, place) for place, _, _, _ in slots]
            return [inf if cost is None else cost for cost in costs]
        case "score":
            scores = index.scores(entry, entry.group.mask) or ()
            return [-(scores[place] or 0.0) for place, _, _, _ in slots]
        case _:
            return [slot_id for _, _, slot_id, _ in slots]


def _shown(key: Decisive, one: _Best, entry: Entry, free: FreeView, index: PoolIndex) -> float | None:
    """Return the value that a sentence shows: busy shares, micro-dollars or a score."""
    place, _, slot_id, _ = one
    match key:
        case "least_used":
            return free.busy_ms(slot_id) / SHORT_MS
        case "model_share":
            return free.model_share(index.fleet.models[place])
        case "cost":
            return index.cost_uusd(entry, place)
        case "score":
            scores = index.scores(entry, entry.group.mask)
            return scores[place] if scores is not None else None
        case _:
            return None


def _models(mask: int, index: PoolIndex) -> list[int]:
    """Return places of the models of these cells."""
    return [place for place, own in enumerate(index.fleet.model_masks) if own & mask]


def _behind(lost: Mapping[int, Decisive], chosen: int, index: PoolIndex) -> Behind:
    return tuple([None if place == chosen else lost.get(place) for place in range(len(index.fleet.models))])
