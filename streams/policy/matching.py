"""One round: everybody who waits and everything that is free, matched in the order of service.

Lifted tasks first, then those for which one free slot only would do, then by points (priority and waiting), EV,
arrival and id; who has waited long enough to have `patience_points` stands with the first. Each takes a slot by its
strategy (`choosing.py`); then the better ones go to the higher EV (`trading.py`).

Groups are merged by their heads: only as many tasks are looked at as are served.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

from schemas.vocabulary import MicroUsd, Millis
from streams.policy.choosing import choose
from streams.policy.draft import PoolDraft
from streams.policy.groups import Group
from streams.policy.lineup import LineUp
from streams.policy.offer import Offer
from streams.policy.trading import Pair, trade
from streams.state.waiting import NO_EV, Entry

_Key = tuple[int, int, int, float, int, str]
_Waiting = tuple[int, float, int, str, Entry]


class Round:
    """One pool's round within a step."""

    def __init__(self, draft: PoolDraft, loose: Iterable[Entry], now_ms: Millis) -> None:
        self._lineup: LineUp = draft.lineup
        self._now_ms = now_ms
        self._patience_points = draft.lineup.rulebook.patience_points
        self._offer = Offer(draft, now_ms)
        #: Cells with a free slot when the round began.
        self.free_before = self._offer.mask
        #: Tasks beside those of the line-up: heaps in service order.
        self._loose: dict[Group, list[_Waiting]] = {}
        if self.free_before:
            self._sort(loose)

    @property
    def free_mask(self) -> int:
        """Cells with a free slot now."""
        return self._offer.mask

    def pairs(self) -> list[Pair]:
        """Serve until nobody who waits may use what is free."""
        pairs: list[Pair] = []
        spent = False
        while self._offer.mask:
            served = self._serve()
            pairs += served
            if not any(pair.entry.group.costs is not None for pair in served):
                break
            spent = True
            # Money spent may have begun somebody's emergency: then there is one more turn.
            self._lineup.look_at_credit()
            if not self._offer.mask & self._lineup.fleet.reserve_mask:
                break
        if len(pairs) > 1:
            trade(pairs, self._lineup)
            if spent:
                self._lineup.look_at_credit()
        return pairs

    def _serve(self) -> list[Pair]:
        offer, lineup = self._offer, self._lineup
        # (key, group, entry); without an entry the key is only a bound that no head of the group is better than.
        heads: list[tuple[_Key, int, Entry | None]] = []
        groups: list[Group] = []
        ranks: list[tuple[int, int]] = []
        # Who may use just one free slot is "only capable here".
        single = offer.single()
        cycle = self._now_ms // lineup.rulebook.ageing_ms
        free, loose = offer.mask, self._loose
        for group in lineup.groups.values():
            admissible = group.mask & free
            if admissible and (group.queue.live or group in loose):
                only_here = admissible & single and not admissible & (admissible - 1)
                rank = (0 if group.lifted else 1, 0 if only_here else 1)
                heads.append((self._key(rank, (*self._bound(group, cycle), 0, "")), len(groups), None))
                groups.append(group)
                ranks.append(rank)
        heapify(heads)
        pairs: list[Pair] = []
        while heads and offer.mask:
            _, i, entry = heads[0]
            group = groups[i]
            costs = group.costs
            if costs is not None and group.seen_uusd != lineup.available[costs.tenant]:
                group.look(lineup.fleet, lineup.conditions, lineup.available, keep_shut=True)
            if not group.mask & offer.mask:
                heappop(heads)
                continue
            if entry is not None:
                pairs.append(self._take_slot(entry))
                self._take_task(entry)
                if not offer.mask:
                    break
            head = self._head(group)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, (self._key(ranks[i], head[0]), i, head[1]))
        return pairs

    def _key(self, rank: tuple[int, int], place: tuple[int, float, int, str]) -> _Key:
        """Place in service order; `place` begins with the negated points."""
        return (0, 0, *place) if -place[0] >= self._patience_points else (*rank, *place)

    def _sort(self, loose: Iterable[Entry]) -> None:
        ageing_ms = self._lineup.rulebook.ageing_ms
        for entry in loose:
            points = (self._now_ms - entry.birth_ms) // ageing_ms
            item = (-points, entry.ev_key, entry.since_ms, entry.task_id, entry)
            self._loose.setdefault(entry.group, []).append(item)
        for waiting in self._loose.values():
            heapify(waiting)

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
        offer, lineup = self._offer, self._lineup
        group: Group = entry.group
        next_free_model = offer.next_free_model(group.able_mask)
        choice, second_best = choose(entry, group.mask & offer.mask, offer, lineup)
        pair = Pair(entry, choice, next_free_model, fallback=second_best)
        offer.take(pair.bit, pair.slot_id)
        if group.costs is not None:
            cost = group.costs.uusd[lineup.fleet.model_of[pair.bit]]
            lineup.available[group.costs.tenant] = MicroUsd(lineup.available[group.costs.tenant] - (cost or 0))
        return pair
