"""Groups of waiting tasks that may use the same models, so that their common properties are evaluated once.

A *shape* is everything about a task that its verdicts depend on, apart from EV and priority: requirements, floor,
boundaries, length. A *group* is the tasks with the same verdicts of the gates that do not depend on time (1 to 4), on
the same side of the premium floor, with the same lift and, where their tenant is watched, the same tenant and similar
costs. The gates that depend on time (exhausted, drained, quota, premium, credit, and whether the emergency model is
open) are applied to a whole group by `look`.

While a tenant's credit covers only some tasks of a group, the group is split by exact costs: see `Family`.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, NamedTuple

from msgspec import Raw
from msgspec.json import encode

from schemas.vocabulary import Decisive, MicroUsd, Millis, ReasonCode
from streams.core.index.conditions import Conditions
from streams.core.index.family import Bill, Family
from streams.core.index.fleet import Fleet, Scores, Verdicts
from streams.core.index.undo import Undo
from streams.core.index.waiting import AgeingQueue, Entry
from streams.core.policy.catalog import PREMIUM_TIER
from streams.core.policy.rules import BY_GATE, UNABLE, emergency, first, floor, furthest, premium

#: Stale entries before a list is compacted.
_ANNOUNCED_SPARE: Final = 64
#: Most encoded verdicts that a group caches.
_PICTURES_MAX: Final = 256


class Announced:
    """Tasks with one announced headline, longest waiting first; stale entries are dropped when they reach the top."""

    __slots__ = ("line", "live")

    def __init__(self) -> None:
        self.live = 0
        self.line: list[tuple[Millis, str, Entry]] = []

    def compact(self, group: Group, headline: ReasonCode | None) -> None:
        """Drop stale entries: the top of a headline that stays is never read."""
        current = {
            item[1]: item
            for item in self.line
            if item[2].alive and item[2].group is group and item[2].row.status.headline == headline
        }
        self.line = list(current.values())
        heapify(self.line)

    def oldest_ms(self, group: Group, headline: ReasonCode | None) -> Millis | None:
        """Return since when the first of them waits; None: none does."""
        while self.line:
            since_ms, _, entry = self.line[0]
            if entry.alive and entry.group is group and entry.row.status.headline == headline:
                return since_ms
            heappop(self.line)
        return None

    def first(self, group: Group, headline: ReasonCode | None, count: int) -> list[tuple[Millis, str, Entry]]:
        """Return the first `count` that still wait and are not hidden."""
        found: list[tuple[Millis, str, Entry]] = []
        hidden: list[tuple[Millis, str, Entry]] = []
        while self.line and len(found) < count:
            item = heappop(self.line)
            entry = item[2]
            if found and found[-1][2] is entry:
                # Announced with this, then with another headline, then with this again.
                continue
            if entry.alive and entry.group is group and entry.row.status.headline == headline:
                (hidden if entry.taken else found).append(item)
        for item in (*found, *hidden):
            heappush(self.line, item)
        return found


class GroupKey(NamedTuple):
    """The common properties of a group's tasks."""

    verdicts: Verdicts
    #: Below the premium floor, where that may matter.
    low: bool
    lifted: bool
    #: Level of the cost breaker that bars them from models; 0: none.
    barred: int
    emergency_mask: int
    failed: bool
    bill: Bill | None
    #: Verdicts where the bar of their class has given way to credit; None: it does not.
    verdicts_below: Verdicts | None = None

    def opens_below(self, of: int) -> bool:
        """Whether the model at this place of the fleet passes the lower bar, and not that of the class."""
        return self.verdicts_below is not None and self.verdicts[of] == "floor" and self.verdicts_below[of] is None


class Group:
    """Waiting tasks with the same verdicts and the same lift."""

    __slots__ = (
        "_able",
        "_barred",
        "_in_reach",
        "_in_service",
        "_pictures",
        "able_mask",
        "announced",
        "below_mask",
        "bill",
        "cheaper_mask",
        "dear_mask",
        "family",
        "gates",
        "gave_way",
        "key",
        "lifted",
        "mask",
        "premium_mask",
        "queue",
        "shut",
        "valid_from_uusd",
        "valid_to_uusd",
    )

    def __init__(self, key: GroupKey, fleet: Fleet, ageing_ms: int, family: Family | None, undo: Undo) -> None:
        self.key = key
        self.lifted = key.lifted
        self.bill = key.bill
        self.family = family
        #: Models that can do the work, also where other gates refuse them.
        self.able_mask = sum(1 << i for i, of in enumerate(fleet.model_of) if key.verdicts[of] not in UNABLE)
        #: Of those the premium ones, and the ones that count as cheaper for the premium floor.
        self.dear_mask = self.able_mask & fleet.tier_masks.get(PREMIUM_TIER, 0)
        self.cheaper_mask = self.able_mask & ~self.dear_mask & ~key.emergency_mask
        #: Cells that open where the bar of their class gives way, if nothing else refuses them.
        self.below_mask = sum(1 << i for i, of in enumerate(fleet.model_of) if key.opens_below(of))
        #: Of each cell: the refusing gate, or None.
        self.gates: Verdicts = ()
        #: Bit i: the i-th cell is admissible; in the second mask it is refused by `premium` only, not by `credit`.
        self.mask = 0
        self.premium_mask = 0
        #: The tenant's credit covers no model at the bar of their class: a lower one holds.
        self.gave_way = False
        #: Emergency models are closed to these tasks.
        self.shut = False
        #: The verdicts hold for credit from this amount on, and below that one.
        self.valid_from_uusd: float = 0.0
        self.valid_to_uusd: float = 0.0
        self.queue = AgeingQueue(ageing_ms, undo)
        #: Announced headline -> its tasks.
        self.announced: dict[ReasonCode | None, Announced] = {}
        self._pictures: dict[tuple[int, int, Scores | None, tuple[Decisive | None, ...]], Raw] = {}
        self._able: str | None = None
        self._in_service = self._in_reach = self._barred = 0

    def look(
        self, fleet: Fleet, conditions: Conditions, available: Mapping[str, MicroUsd], *, keep_shut: bool = False
    ) -> None:
        """Apply the present conditions.

        `keep_shut`: in the middle of a round no emergency model opens, and no bar of a class gives way.
        """
        verdicts, emergency_mask = self.key.verdicts, self.key.emergency_mask
        gates = [first(verdicts[of], gate) for of, gate in zip(fleet.model_of, conditions.by_cell, strict=True)]
        self._in_service, self._in_reach = conditions.in_service, conditions.in_reach
        if self.key.low and self.cheaper_mask & conditions.in_reach:
            premium.keep(gates, self.dear_mask)
        self._barred = unpaid = fleet.barred(self.key.barred)
        if unpaid:
            gates = [gate or ("credit" if unpaid >> i & 1 else None) for i, gate in enumerate(gates)]
        if self.bill is not None and self.family is not None:
            left = available[self.bill.tenant]
            costs = self.bill.exact or tuple(self.family.cheap)
            unpaid |= fleet.unpaid(costs, left)
            gates = [gate or ("credit" if unpaid >> i & 1 else None) for i, gate in enumerate(gates)]
            limits = [cost for cost in (*costs, *(() if self.bill.exact else self.family.dear)) if cost is not None]
            self.valid_from_uusd = max((cost for cost in limits if cost <= left), default=-inf)
            # An evaluation in the middle of a round is repeated after it.
            self.valid_to_uusd = -inf if keep_shut else min((cost for cost in limits if cost > left), default=inf)
        if (below := self.key.verdicts_below) is not None:
            self.gave_way = (
                self.gave_way if keep_shut else floor.gives_way(gates, emergency_mask, conditions.in_service)
            )
            for i, of in enumerate(fleet.model_of if self.gave_way else ()):
                if gates[i] == "floor":
                    gates[i] = first(below[of], conditions.by_cell[i]) or ("credit" if unpaid >> i & 1 else None)
        if emergency_mask:
            self.shut = emergency.closes(gates, emergency_mask, conditions.in_service) or (keep_shut and self.shut)
            if self.shut:
                emergency.close(gates, emergency_mask)
        self.gates = tuple(gates)
        self.mask = sum(1 << i for i, gate in enumerate(gates) if gate is None)
        self.premium_mask = sum(1 << i for i, gate in enumerate(gates) if gate == "premium") & ~unpaid
        self._pictures.clear()
        self._able = None

    def is_valid(self, left: MicroUsd) -> bool:
        """Whether the verdicts hold for this credit."""
        return self.valid_from_uusd <= left < self.valid_to_uusd

    def announce(self, entry: Entry) -> None:
        """Add a task under the headline of its row."""
        headline = entry.row.status.headline
        announced = self.announced.get(headline)
        if announced is None:
            announced = self.announced[headline] = Announced()
        announced.live += 1
        heappush(announced.line, (entry.since_ms, entry.task_id, entry))
        if len(announced.line) > 2 * announced.live + _ANNOUNCED_SPARE:
            announced.compact(self, headline)

    def withdraw(self, headline: ReasonCode | None) -> None:
        """Remove a task from a headline: it left, or another one was announced."""
        announced = self.announced[headline]
        announced.live -= 1
        if not announced.live:
            del self.announced[headline]

    def stale(self, headline: ReasonCode, count: int) -> list[tuple[Millis, str, Entry]]:
        """Return up to `count` tasks whose announced headline is another one, longest waiting first."""
        found: list[tuple[Millis, str, Entry]] = []
        for other, announced in self.announced.items():
            if other != headline:
                found += announced.first(self, other, count)
        return sorted(found)[:count]

    def able(self, fleet: Fleet) -> str:
        """Names of admissible models with a slot in service."""
        if self._able is None:
            busy = self.mask & self._in_service
            self._able = ", ".join(dict.fromkeys(cell.model for i, cell in enumerate(fleet.cells) if busy >> i & 1))
        return self._able

    def headline(self, free_mask: int) -> ReasonCode:
        """Return the headline of these tasks, when the cells in `free_mask` have a free slot."""
        if self.mask and not self.mask & self._in_service:
            return "lost"
        if self.premium_mask & free_mask:
            return "reserved_for_ev"
        if self.mask:
            return "capable_busy"
        gate = furthest(self.gates)
        return BY_GATE[gate].headline if gate is not None else "no_capable_model"

    def alternatives(
        self,
        fleet: Fleet,
        gates: Verdicts,
        free_mask: int,
        chosen: int,
        scores: Scores | None,
        behind: tuple[Decisive | None, ...] = (),
    ) -> Raw:
        """Return every model's verdict and score as JSON, cached by its input; `chosen` -1: none.

        `gates` are the verdicts at the time of choice; they differ from the present ones after a reservation. `behind`
        has what put each model that was compared behind the chosen one.
        """
        now = gates is self.gates
        key = (free_mask & self.mask, chosen, scores, behind)
        raw = self._pictures.get(key) if now else None
        if raw is None:
            raw = self._picture(fleet, gates, free_mask, chosen, scores, behind)
            if now:
                if len(self._pictures) >= _PICTURES_MAX:
                    self._pictures.clear()
                self._pictures[key] = raw
        return raw

    def _picture(
        self,
        fleet: Fleet,
        gates: Verdicts,
        free_mask: int,
        chosen: int,
        scores: Scores | None,
        behind: tuple[Decisive | None, ...],
    ) -> Raw:
        admitted = sum(1 << i for i, gate in enumerate(gates) if gate is None)
        words: dict[str, dict[str, object]] = {}
        for at, (model, mask) in enumerate(zip(fleet.models, fleet.model_masks, strict=True)):
            if chosen >= 0 and mask >> chosen & 1:
                word: str = "chosen"
            elif own := mask & admitted:
                word = "ok" if own & free_mask else "busy" if own & self._in_service else "lost"
            else:
                word = furthest(gate for i, gate in enumerate(gates) if mask >> i & 1) or "busy"
            words[model] = {"gate": word}
            if not mask & self._in_reach:
                words[model]["out_of_reach"] = True
            if mask & self._barred:
                words[model]["breaker"] = True
            if scores is not None and (score := scores[at]) is not None:
                words[model]["score"] = score
            if word == "ok" and behind and behind[at] is not None:
                words[model]["behind"] = behind[at]
        return Raw(encode(words))
