"""A round: everything that waits and everything that is free are decided together.

Who is served: tasks in service order each take a slot by their strategy; lifted tasks come first, then those
for whom a single free slot is admissible, then aged priority, EV, arrival, id. Who gets the better slot: among
the pairs of the round, better tiers go to higher EV as far as the gates allow. So nobody is served less than
one event at a time would, no admissible slot stays idle beside a waiting task, and the value goes where it
counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace

from schemas.decision import SlotRow
from schemas.vocabulary import Millis
from streams.policy.draft import PoolDraft
from streams.policy.lineup import Group, LineUp
from streams.policy.ranking import model_share, tiers
from streams.state.utilisation import SHORT_MS
from streams.state.waiting import NO_EV, Entry

_Key = tuple[int, int, int, float, int, str]


class Pair:
    """A task and the slot it gets."""

    __slots__ = ("bit", "busy_ms", "entry", "next_free_model", "slot_id", "traded")

    def __init__(self, entry: Entry, slot_id: str, bit: int, busy_ms: int, next_free_model: str | None) -> None:
        self.entry = entry
        self.slot_id = slot_id
        self.bit = bit
        self.busy_ms = busy_ms
        #: Model of the slot that had been free longest: what "next free slot" would have used.
        self.next_free_model = next_free_model
        self.traded = False


class Round:
    """One pool's round within a step."""

    def __init__(self, draft: PoolDraft, loose: Iterable[Entry], now_ms: Millis) -> None:
        self._lineup: LineUp = draft.lineup
        self._now_ms = now_ms
        self._loose: dict[Group, list[tuple[int, float, int, str, Entry]]] = {}
        ageing_ms = self._lineup.rulebook.ageing_ms
        for entry in loose:
            points = (now_ms - entry.birth_ms) // ageing_ms
            item = (-points, entry.ev_key, entry.since_ms, entry.task_id, entry)
            self._loose.setdefault(entry.group, []).append(item)
        for waiting in self._loose.values():
            heapify(waiting)
        #: Slots that this step freed, by model bit: (busy ms, slot id, free since).
        self._fresh: dict[int, list[tuple[int, str, Millis]]] = {}
        self._counts: list[int] = []
        self._count_free(draft)
        #: Models with a free slot when the round began, and now.
        self.free_before = sum(1 << i for i, count in enumerate(self._counts) if count)
        self.free_mask = self.free_before

    def pairs(self) -> list[Pair]:
        """Serve until nobody who waits may use what is free."""
        if not self.free_mask:
            return []
        heads: list[tuple[_Key, int, Entry]] = []
        groups: list[Group] = []
        only_here: list[int] = []
        for group in {**dict.fromkeys(self._lineup.groups.values()), **dict.fromkeys(self._loose)}:
            if not group.mask & self.free_mask:
                continue
            head = self._head(group)
            if head is None:
                continue
            admissible = sum(count for i, count in enumerate(self._counts) if group.mask >> i & 1)
            rank = 0 if admissible == 1 else 1
            heads.append(((1 - group.lifted, rank, *head[0]), len(groups), head[1]))
            groups.append(group)
            only_here.append(rank)
        heapify(heads)
        pairs: list[Pair] = []
        while heads and self.free_mask:
            _, i, entry = heads[0]
            group = groups[i]
            if not group.mask & self.free_mask:
                heappop(heads)
                continue
            pairs.append(self._take_slot(entry))
            self._take_task(entry)
            head = self._head(group)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, ((1 - group.lifted, only_here[i], *head[0]), i, head[1]))
        if len(pairs) > 1:
            _trade(pairs, self._lineup)
        return pairs

    def _count_free(self, draft: PoolDraft) -> None:
        lineup = self._lineup
        self._counts = [len(lineup.free_slots(model)) for model in lineup.models]
        for slot_id in (*draft.slots, *draft.slots_gone):
            old, new = lineup.pool.slots.get(slot_id), draft.slot(slot_id)
            if old is not None and old.state == "free" and not old.retired and old.model in lineup.bit:
                if _is_free(new) and new is not None and new.model == old.model:
                    continue
                lineup.free_slots(old.model).take(slot_id)
                self._counts[lineup.bit[old.model]] -= 1
            if new is not None and _is_free(new):
                bit = lineup.bit[new.model]
                curve = lineup.pool.busy.get(slot_id)
                busy_ms = curve.busy_ms(self._now_ms, SHORT_MS) if curve is not None else 0
                heappush(self._fresh.setdefault(bit, []), (busy_ms, slot_id, new.since_ms))
                self._counts[bit] += 1

    def _head(self, group: Group) -> tuple[tuple[int, float, int, str], Entry] | None:
        found = group.queue.head(self._now_ms) if group.queue.live else None
        queued = None
        if found is not None:
            entry, points = found
            queued = (-points, entry.ev_key, entry.since_ms, entry.task_id, entry)
        loose = self._loose.get(group)
        if loose and (queued is None or loose[0] < queued):
            queued = loose[0]
        return (queued[:4], queued[4]) if queued is not None else None

    def _take_task(self, entry: Entry) -> None:
        loose = self._loose.get(entry.group)
        if loose and loose[0][4] is entry:
            heappop(loose)
        else:
            entry.group.queue.take(entry)

    def _take_slot(self, entry: Entry) -> Pair:
        lineup, now_ms = self._lineup, self._now_ms
        next_free_model = self._next_free_model()
        group: Group = entry.group
        part = next(tiers(lineup, group.mask & self.free_mask, lifted=group.lifted))
        best: tuple[int, float, str, int] | None = None
        while part:
            bit = (part & -part).bit_length() - 1
            part &= part - 1
            busy_ms, slot_id = self._least_used(bit)
            share = model_share(lineup, lineup.models[bit], now_ms) if part or best is not None else 0.0
            candidate = (busy_ms, share, slot_id, bit)
            if best is None or candidate < best:
                best = candidate
        assert best is not None  # noqa: S101 -- free_mask says that a slot of the part is free
        busy_ms, _, slot_id, bit = best
        fresh = self._fresh.get(bit)
        if fresh and fresh[0][1] == slot_id:
            heappop(fresh)
        else:
            lineup.free_slots(lineup.models[bit]).take(slot_id)
        self._counts[bit] -= 1
        if not self._counts[bit]:
            self.free_mask &= ~(1 << bit)
        return Pair(entry, slot_id, bit, busy_ms, next_free_model)

    def _least_used(self, bit: int) -> tuple[int, str]:
        known = self._lineup.free_slots(self._lineup.models[bit]).least_used(self._now_ms)
        fresh = self._fresh.get(bit)
        if fresh and (known is None or fresh[0][:2] < known):
            return fresh[0][:2]
        assert known is not None  # noqa: S101 -- the count says that one is free
        return known

    def _next_free_model(self) -> str | None:
        best: tuple[Millis, str, str] | None = None
        mask = self.free_mask
        while mask:
            bit = (mask & -mask).bit_length() - 1
            mask &= mask - 1
            model = self._lineup.models[bit]
            known = self._lineup.free_slots(model).longest_free()
            if known is not None and (best is None or (*known, model) < best):
                best = (*known, model)
            for _, slot_id, since_ms in self._fresh.get(bit, ())[:1]:
                if best is None or (since_ms, slot_id, model) < best:
                    best = (since_ms, slot_id, model)
        return best[2] if best is not None else None


def _is_free(slot: SlotRow | None) -> bool:
    return slot is not None and slot.state == "free" and not slot.retired


def _trade(pairs: list[Pair], lineup: LineUp) -> None:
    """Within the round's pairs, let the higher EV have the better tier where the gates allow.

    Highest EV first, each pair takes the best tier it can get by a chain of trades among the pairs after it;
    a chain leaves everybody with a slot that their gates admit. Unknown EVs are last and only give.
    """
    tier = [lineup.rulebook.models[model].tier for model in lineup.models]
    if len({tier[pair.bit] for pair in pairs}) == 1:
        return
    order = sorted(range(len(pairs)), key=lambda i: (pairs[i].entry.ev_key, i))
    #: Pairs that may still be moved, by the model they hold, lowest EV last.
    holders: dict[int, list[int]] = {}
    for i in order:
        holders.setdefault(pairs[i].bit, []).append(i)
    for i in order:
        mine = pairs[i]
        holders[mine.bit].remove(i)
        if mine.entry.ev_key == NO_EV:
            return
        better = sorted((bit for bit in holders if tier[bit] > tier[mine.bit]), key=lambda bit: (-tier[bit], bit))
        for bit in better:
            if not mine.entry.group.mask >> bit & 1 or not holders[bit]:
                continue
            chain = _chain(bit, mine.bit, pairs, holders)
            if chain is not None:
                _shift([i, *chain], pairs, holders)
                break


def _chain(start: int, goal: int, pairs: list[Pair], holders: dict[int, list[int]]) -> list[int] | None:
    """Pairs that each move to the next one's model, from a holder of `start` to one that may use `goal`."""
    before: dict[int, tuple[int, int] | None] = {start: None}
    frontier = [start]
    while frontier:
        following = []
        for bit in frontier:
            for holder in reversed(holders.get(bit, ())):
                mask = pairs[holder].entry.group.mask
                if mask >> goal & 1:
                    chain = [holder]
                    step = before[bit]
                    while step is not None:
                        chain.append(step[1])
                        step = before[step[0]]
                    return chain[::-1]
                for onward in holders:
                    if onward not in before and mask >> onward & 1:
                        before[onward] = (bit, holder)
                        following.append(onward)
        frontier = following
    return None


def _shift(chain: list[int], pairs: list[Pair], holders: dict[int, list[int]]) -> None:
    """Each pair of the chain takes the slot of the next; the last takes the first one's."""
    slots = [(pairs[i].slot_id, pairs[i].bit, pairs[i].busy_ms) for i in chain]
    for place, i in enumerate(chain):
        pair = pairs[i]
        if place:
            holders[pair.bit].remove(i)
        pair.slot_id, pair.bit, pair.busy_ms = slots[(place + 1) % len(slots)]
        pair.traded = True
        if place:
            waiting = holders.setdefault(pair.bit, [])
            waiting.append(i)
            waiting.sort(key=lambda i: (pairs[i].entry.ev_key, i))
