"""Swaps within a round: better slots go to higher EVs, as far as the gates allow.

In order of EV, each pair takes the best tier that it can get by a chain of swaps (an augmenting path). After a chain
every task has a slot that its gates admit, and tasks of higher EV keep their tier. Tasks of unknown EV are last and
can only lose a tier. A chain that would overdraw a tenant's credit is not made.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from functools import reduce
from operator import or_

from schemas.vocabulary import MicroUsd
from streams.core.index.fleet import Verdicts
from streams.core.index.pool_index import PoolIndex
from streams.core.index.waiting import NO_EV, Entry
from streams.core.step.choosing import Choice


class Pair:
    """A task and its slot."""

    __slots__ = (
        "bit",
        "busy_ms",
        "chosen_id",
        "code",
        "entry",
        "fallback",
        "found",
        "gates",
        "gave_way",
        "mask",
        "next_free_model",
        "slot_id",
    )

    def __init__(self, entry: Entry, choice: Choice, gates: Verdicts, next_free_model: str | None) -> None:
        self.entry = entry
        #: What the strategy chose, and why; a swap may give the task another slot.
        self.found = choice.found
        self.bit, self.slot_id = choice.found.bit, choice.found.slot_id
        self.busy_ms, self.code, self.fallback = choice.busy_ms, choice.code, choice.is_second
        #: Model of the able slot that had been free longest: the choice of "next free slot".
        self.next_free_model = next_free_model
        #: Verdicts of the gates at the time of choice, and the admitted cells.
        self.gates = gates
        self.mask = entry.group.mask
        #: The bar of its class had given way to credit.
        self.gave_way = entry.group.gave_way
        if gates is not entry.group.gates:
            self.mask = sum([1 << bit for bit, gate in enumerate(gates) if gate is None])

    @property
    def is_swapped(self) -> bool:
        """Whether a swap gave it another slot than its strategy chose."""
        return self.slot_id != self.found.slot_id


def swap(pairs: list[Pair], index: PoolIndex) -> bool:
    """Swap slots between pairs of the strategy cheapest_capable; return whether reservations changed."""
    fleet = index.fleet
    tiers = fleet.tier_masks
    tier = [next(tier for tier, mask in tiers.items() if mask >> bit & 1) for bit in range(len(fleet.cells))]
    swappers = [pair for pair in pairs if pair.code in ("cheapest_capable", "lifted")]
    if all(tier[pair.bit] == tier[swappers[0].bit] for pair in swappers):
        return False
    before = {
        pair.entry.tenant: index.balances.left[pair.entry.tenant] for pair in swappers if pair.entry.costs is not None
    }
    line = sorted(swappers, key=lambda pair: pair.entry.ev_key)
    holders = _Holders(line, [_reach(pair, index) for pair in line])
    for place, mine in enumerate(line):
        if mine.entry.ev_key == NO_EV:
            break
        reach = holders.remove(place)
        better = reach & sum(1 << bit for bit in range(len(tier)) if tier[bit] > tier[mine.bit])
        if better and (reachable := better & holders.sources(mine.bit)):
            bits = [bit for bit in range(len(tier)) if reachable >> bit & 1]
            chain = [place, *holders.chain(max(bits, key=lambda bit: (tier[bit], -bit)), mine.bit)]
            if _is_covered([line[i] for i in chain], index):
                holders.shift(chain)
        # From here on it may change within its tier only.
        holders.add(place, reach & tiers[tier[mine.bit]])
    return any(index.balances.left[tenant] != left for tenant, left in before.items())


def _reach(pair: Pair, index: PoolIndex) -> int:
    """Return the cells for the pair: those that its gates admit and its tenant can pay for."""
    entry = pair.entry
    if entry.costs is None:
        return pair.mask
    left = MicroUsd(index.balances.left[entry.tenant] + _cost(pair, pair.bit, index))
    return pair.mask & ~index.fleet.unpaid(entry.costs, left)


def _cost(pair: Pair, bit: int, index: PoolIndex) -> MicroUsd:
    """Return the estimated cost of the task there; the price must be known."""
    costs = pair.entry.costs
    cost = costs[index.fleet.model_of[bit]] if costs is not None else None
    return cost if cost is not None else MicroUsd(0)


def _is_covered(chain: list[Pair], index: PoolIndex) -> bool:
    """Whether every tenant can pay for the chain; if so, the reservations are changed."""
    spent: dict[str, int] = {}
    for i, pair in enumerate(chain):
        if pair.entry.costs is not None:
            tenant = pair.entry.tenant
            dearer = _cost(pair, chain[(i + 1) % len(chain)].bit, index) - _cost(pair, pair.bit, index)
            spent[tenant] = spent.get(tenant, 0) + dearer
    if any(amount > max(0, index.balances.left[tenant]) for tenant, amount in spent.items()):
        return False
    for tenant, amount in spent.items():
        index.balances.leave(tenant, MicroUsd(index.balances.left[tenant] - amount))
    return True


class _Holders:
    """Pairs by the model of their slot and the models that they could change to; a pair is its place in `line`."""

    def __init__(self, line: list[Pair], masks: list[int]) -> None:
        self._line = line
        self._masks = masks
        #: model bit -> mask of models that they may change to -> places, lowest EV last.
        self._places: dict[int, dict[int, list[int]]] = {}
        for place, mask in enumerate(self._masks):
            self.add(place, mask)

    def add(self, place: int, mask: int) -> None:
        """Add the pair at `place`, which may change to the models in `mask`."""
        self._masks[place] = mask
        insort(self._places.setdefault(self._line[place].bit, {}).setdefault(mask, []), place)

    def remove(self, place: int) -> int:
        """Remove the pair at `place`; return the models that it could have changed to."""
        by_mask = self._places[self._line[place].bit]
        places = by_mask[self._masks[place]]
        places.remove(place)
        if not places:
            del by_mask[self._masks[place]]
        return self._masks[place]

    def sources(self, goal: int) -> int:
        """Return models from whose holders a chain leads to a slot of `goal`."""
        onward = {bit: reduce(or_, by_mask) for bit, by_mask in self._places.items() if by_mask}
        found, before = 1 << goal, 0
        while found != before:
            before = found
            for bit, mask in onward.items():
                if mask & found:
                    found |= 1 << bit
        return sum(1 << bit for bit, mask in onward.items() if mask & found)

    def chain(self, start: int, goal: int) -> list[int]:
        """Return pairs that each change to the model of the next, from a holder of `start` to one that may use `goal`.

        The shortest chain; at each link the lowest EV moves. `start` must be one of `sources(goal)`.
        """
        #: model -> the model before it in the chain, and the mask of the holders of that one who change.
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
        """Give each pair of the chain the slot of the next, the last that of the first, which is not added again."""
        for place in chain[1:]:
            self.remove(place)
        slots = [(self._line[place].slot_id, self._line[place].bit, self._line[place].busy_ms) for place in chain]
        for i, place in enumerate(chain):
            pair = self._line[place]
            pair.slot_id, pair.bit, pair.busy_ms = slots[(i + 1) % len(slots)]
            if i:
                self.add(place, self._masks[place])
