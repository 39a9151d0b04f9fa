"""A round: everything that waits and everything that is free are decided together.

Who is served: tasks in service order each take a slot by their strategy; lifted tasks come first, then those
for whom a single free slot is admissible, then aged priority, EV, arrival, id. Who gets the better slot: among
the pairs of the round, better tiers go to higher EV as far as the gates allow. So nobody is served less than
one event at a time would, no admissible slot stays idle beside a waiting task, and the value goes where it
counts.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from functools import reduce
from heapq import heapify, heappop, heappush, heapreplace
from operator import or_

from schemas.decision import SlotRow
from schemas.vocabulary import Millis
from streams.policy.draft import PoolDraft
from streams.policy.lineup import Group, LineUp
from streams.policy.ranking import model_share, tier_mask
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
        #: Model of the able slot that had been free longest: what "next free slot" would have used.
        self.next_free_model = next_free_model
        self.traded = False


class Round:
    """One pool's round within a step."""

    def __init__(self, draft: PoolDraft, loose: Iterable[Entry], now_ms: Millis) -> None:
        self._lineup: LineUp = draft.lineup
        self._now_ms = now_ms
        #: Slots that this step freed, by model bit: (busy ms, slot id, free since).
        self._fresh: dict[int, list[tuple[int, str, Millis]]] = {}
        self._counts: list[int] = self._lineup.free_counts.copy()
        # Looked up once a round, and again after a slot of the model was taken.
        self._least: dict[int, tuple[int, str]] = {}
        self._longest: dict[int, tuple[Millis, str, int]] = {}
        self._shares: dict[int, float] = {}
        self._lines: dict[int, list[tuple[Millis, str]]] = {}
        self._taken: set[str] = set()
        if draft.slots or draft.slots_gone:
            self._count_changes(draft)
        #: Models with a free slot when the round began, and now.
        self.free_before = 0
        for bit, count in enumerate(self._counts):
            if count:
                self.free_before |= 1 << bit
        self.free_mask = self.free_before
        #: Tasks beside those of the line-up: heaps in service order.
        self._loose: dict[Group, list[tuple[int, float, int, str, Entry]]] = {}
        if self.free_mask:
            self._sort(loose)

    def pairs(self) -> list[Pair]:
        """Serve until nobody who waits may use what is free."""
        if not self.free_mask:
            return []
        # (key, group, entry); without an entry the key is only a bound that no head of the group is better than.
        heads: list[tuple[_Key, int, Entry | None]] = []
        groups: list[Group] = []
        ranks: list[tuple[int, int]] = []
        # Models of which a single slot is free: who may use just one of these is "only capable here".
        single = 0
        for bit, count in enumerate(self._counts):
            if count == 1:
                single |= 1 << bit
        cycle = self._now_ms // self._lineup.rulebook.ageing_ms
        for group in self._lineup.groups.values():
            admissible = group.mask & self.free_mask
            if not admissible or not (group.queue.live or group in self._loose):
                continue
            only_here = admissible & single and not admissible & (admissible - 1)
            rank = (0 if group.lifted else 1, 0 if only_here else 1)
            heads.append(((*rank, *self._bound(group, cycle), 0, ""), len(groups), None))
            groups.append(group)
            ranks.append(rank)
        heapify(heads)
        pairs: list[Pair] = []
        while heads and self.free_mask:
            _, i, entry = heads[0]
            group = groups[i]
            if not group.mask & self.free_mask:
                heappop(heads)
                continue
            if entry is not None:
                pairs.append(self._take_slot(entry))
                self._take_task(entry)
                if not self.free_mask:
                    break
            head = self._head(group)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, ((*ranks[i], *head[0]), i, head[1]))
        if len(pairs) > 1:
            _trade(pairs, self._lineup)
        return pairs

    def _sort(self, loose: Iterable[Entry]) -> None:
        ageing_ms = self._lineup.rulebook.ageing_ms
        for entry in loose:
            points = (self._now_ms - entry.birth_ms) // ageing_ms
            item = (-points, entry.ev_key, entry.since_ms, entry.task_id, entry)
            self._loose.setdefault(entry.group, []).append(item)
        for waiting in self._loose.values():
            heapify(waiting)

    def _count_changes(self, draft: PoolDraft) -> None:
        lineup = self._lineup
        for slot_id in (*draft.slots, *draft.slots_gone):
            old, new = lineup.pool.slots.get(slot_id), draft.slot(slot_id)
            if old is not None and old.state == "free" and not old.retired and old.model in lineup.bit:
                if _is_free(new) and new is not None and new.model == old.model:
                    continue
                lineup.hide_slot(old.model, slot_id)
                self._counts[lineup.bit[old.model]] -= 1
            if new is not None and _is_free(new):
                bit = lineup.bit[new.model]
                curve = lineup.pool.busy.get(slot_id)
                busy_ms = curve.busy_ms(self._now_ms, SHORT_MS) if curve is not None else 0
                heappush(self._fresh.setdefault(bit, []), (busy_ms, slot_id, new.since_ms))
                self._counts[bit] += 1

    def _bound(self, group: Group, cycle: int) -> tuple[int, float]:
        """(negated points, EV key) that no head of the group is better than."""
        loose = self._loose.get(group) if self._loose else None
        if not group.queue.live:
            return loose[0][:2] if loose else (0, NO_EV)
        bound = group.queue.bound(cycle)
        return min(bound, loose[0][:2]) if loose else bound

    def _head(self, group: Group) -> tuple[tuple[int, float, int, str], Entry] | None:
        found = group.queue.head(self._now_ms) if group.queue.live else None
        best: tuple[int, float, int, str] | None = None
        entry: Entry | None = None
        if found is not None:
            entry = found[0]
            best = (-found[1], entry.ev_key, entry.since_ms, entry.task_id)
        loose = self._loose.get(group) if self._loose else None
        if loose and (best is None or loose[0][:4] < best):
            best, entry = loose[0][:4], loose[0][4]
        return (best, entry) if best is not None and entry is not None else None

    def _take_task(self, entry: Entry) -> None:
        loose = self._loose.get(entry.group)
        if loose and loose[0][4] is entry:
            heappop(loose)
        else:
            self._lineup.hide(entry)

    def _take_slot(self, entry: Entry) -> Pair:
        lineup = self._lineup
        group: Group = entry.group
        next_free_model = self._next_free_model(group)
        part = tier_mask(lineup, group.mask & self.free_mask, lifted=group.lifted)
        bit = part.bit_length() - 1
        busy_ms, slot_id = self._least_used(bit)
        if part & (part - 1):
            # Several models of the tier have a free slot.
            best = (busy_ms, self._share(bit), slot_id, bit)
            while part := part & ~(1 << bit):
                bit = part.bit_length() - 1
                busy_ms, slot_id = self._least_used(bit)
                if busy_ms <= best[0]:
                    best = min(best, (busy_ms, self._share(bit), slot_id, bit))
            busy_ms, _, slot_id, bit = best
        fresh = self._fresh.get(bit)
        if fresh and fresh[0][1] == slot_id:
            heappop(fresh)
            self._taken.add(slot_id)
        else:
            lineup.hide_slot(lineup.models[bit], slot_id)
        self._least.pop(bit, None)
        self._longest.pop(bit, None)
        self._counts[bit] -= 1
        if not self._counts[bit]:
            self.free_mask &= ~(1 << bit)
        return Pair(entry, slot_id, bit, busy_ms, next_free_model)

    def _share(self, bit: int) -> float:
        share = self._shares.get(bit)
        if share is None:
            share = self._shares[bit] = model_share(self._lineup, self._lineup.models[bit], self._now_ms)
        return share

    def _least_used(self, bit: int) -> tuple[int, str]:
        known = self._least.get(bit)
        if known is None:
            fresh = self._fresh.get(bit)
            free = self._lineup.free_slots(self._lineup.models[bit])
            # The count says that there is one, here or there.
            found = [slot for slot in (free.least_used(self._now_ms), fresh[0][:2] if fresh else None) if slot]
            known = self._least[bit] = min(found)
        return known

    def _fresh_line(self, bit: int) -> list[tuple[Millis, str]]:
        """What this step freed and is not taken, free longest first."""
        line = self._lines.get(bit)
        if line is None:
            line = self._lines[bit] = [(since_ms, slot_id) for _, slot_id, since_ms in self._fresh[bit]]
            heapify(line)
        while line[0][1] in self._taken:
            heappop(line)
        return line

    def _next_free_model(self, group: Group) -> str | None:
        """Model of the slot that has been free longest among those able to do the work: the status quo's choice."""
        lineup = self._lineup
        mask = self.free_mask & group.able_mask
        if not mask & (mask - 1):
            return lineup.models[mask.bit_length() - 1]
        best: tuple[Millis, str, int] | None = None
        while mask:
            bit = mask.bit_length() - 1
            mask &= ~(1 << bit)
            known = self._longest.get(bit)
            if known is None:
                # What this step freed has been free for a shorter time than anything known.
                found = lineup.longest_free(lineup.models[bit]) or self._fresh_line(bit)[0]
                known = self._longest[bit] = (*found, bit)
            if best is None or known < best:
                best = known
        return lineup.models[best[2]] if best is not None else None


def _is_free(slot: SlotRow | None) -> bool:
    return slot is not None and slot.state == "free" and not slot.retired


def _trade(pairs: list[Pair], lineup: LineUp) -> None:
    """Within the round's pairs, let the higher EV have the better tier where the gates allow.

    Highest EV first, each pair takes the best tier it can get by a chain of trades; a chain leaves everybody with a
    slot that their gates admit, and those before with a slot of the tier they have. Unknown EVs are last and only give.
    """
    tier = [lineup.rulebook.models[model].tier for model in lineup.models]
    if len({tier[pair.bit] for pair in pairs}) == 1:
        return
    line = sorted(pairs, key=lambda pair: pair.entry.ev_key)
    holders = _Holders(line)
    for place, mine in enumerate(line):
        if mine.entry.ev_key == NO_EV:
            return
        holders.remove(place)
        better = mine.entry.group.mask & sum(1 << bit for bit in range(len(tier)) if tier[bit] > tier[mine.bit])
        if better and (reachable := better & holders.sources(mine.bit)):
            bits = [bit for bit in range(len(tier)) if reachable >> bit & 1]
            holders.shift([place, *holders.chain(max(bits, key=lambda bit: (tier[bit], -bit)), mine.bit)])
        # From here on it may move within its tier only.
        holders.add(place, mine.entry.group.mask & lineup.tier_masks[tier[mine.bit]])


class _Holders:
    """Which pairs hold a slot of which model and could move to which others; pairs by their place in `line`."""

    def __init__(self, line: list[Pair]) -> None:
        self._line = line
        self._masks = [pair.entry.group.mask for pair in line]
        #: model bit -> mask of models to which they may move -> places, lowest EV last.
        self._places: dict[int, dict[int, list[int]]] = {}
        for place, mask in enumerate(self._masks):
            self.add(place, mask)

    def add(self, place: int, mask: int) -> None:
        """The pair at `place` holds what it holds, and may move to the models in `mask`."""
        self._masks[place] = mask
        insort(self._places.setdefault(self._line[place].bit, {}).setdefault(mask, []), place)

    def remove(self, place: int) -> None:
        """The pair at `place` takes no part."""
        by_mask = self._places[self._line[place].bit]
        places = by_mask[self._masks[place]]
        places.remove(place)
        if not places:
            del by_mask[self._masks[place]]

    def sources(self, goal: int) -> int:
        """Models from whose holders a chain leads to a slot of `goal`."""
        onward = {bit: reduce(or_, by_mask) for bit, by_mask in self._places.items() if by_mask}
        found, before = 1 << goal, 0
        while found != before:
            before = found
            for bit, mask in onward.items():
                if mask & found:
                    found |= 1 << bit
        return sum(1 << bit for bit, mask in onward.items() if mask & found)

    def chain(self, start: int, goal: int) -> list[int]:
        """Places of pairs that each move to the next one's model, from a holder of `start` to one who may use `goal`.

        The shortest chain; at each link the lowest EV moves. `start` must be one of `sources(goal)`.
        """
        #: model -> the model before it in the chain, and the mask of the holders of that one who move on.
        came: dict[int, tuple[int, int] | None] = {start: None}
        queue = deque([start])
        while True:
            bit = queue.popleft()
            movers = self._places.get(bit, {})
            last = max((places[-1] for mask, places in movers.items() if mask >> goal & 1), default=None)
            if last is not None:
                break
            for mask in sorted(movers, key=lambda mask: -movers[mask][-1]):
                for onward in self._places:
                    if onward not in came and mask >> onward & 1:
                        came[onward] = (bit, mask)
                        queue.append(onward)
        chain = [last]
        while (step := came[bit]) is not None:
            bit = step[0]
            chain.append(self._places[bit][step[1]][-1])
        return chain[::-1]

    def shift(self, chain: list[int]) -> None:
        """Each pair of the chain takes the slot of the next, the last the first one's; the first is not added again."""
        for place in chain[1:]:
            self.remove(place)
        slots = [(self._line[place].slot_id, self._line[place].bit, self._line[place].busy_ms) for place in chain]
        for i, place in enumerate(chain):
            pair = self._line[place]
            pair.slot_id, pair.bit, pair.busy_ms = slots[(i + 1) % len(slots)]
            pair.traded = True
            if i:
                self.add(place, self._masks[place])
