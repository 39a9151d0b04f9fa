"""Waiting tasks that may use the same models: what is alike about them is looked at once.

A *shape* is everything about a task that its verdicts depend on, apart from its EV and priority: what it requires,
its floor, its boundaries, whether it fits. A *group* are the tasks with the same verdicts of the gates that stand for
good (1 to 4, and premium), the same lift and, where their tenant has a budget, the same tenant and much the same cost.
What changes with time (exhausted, drained, quota, credit, whether the local emergency model is open) is laid over a
whole group by `look`.

Where a tenant's credit covers some tasks of a group and not others, the group is split by exact costs for as long as
that is so: see `Family`.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, NamedTuple

from msgspec import Raw
from msgspec.json import encode

from schemas.vocabulary import MicroUsd, Millis, ReasonCode
from streams.core.index.family import Bill, Family
from streams.core.index.fleet import Fleet, Scores, Verdicts
from streams.core.index.undo import Undo
from streams.core.index.waiting import AgeingQueue, Entry
from streams.core.policy.rules import BY_GATE, UNABLE, credit, emergency, first, furthest

#: So many more entries than tasks are borne before a list is looked through.
_ANNOUNCED_SPARE: Final = 64
#: Pictures of one group's verdicts kept as JSON.
_PICTURES_MAX: Final = 256


class Announced:
    """Those who were told one headline, longest waiting first; entries of others surface and go."""

    __slots__ = ("line", "live")

    def __init__(self) -> None:
        self.live = 0
        self.line: list[tuple[Millis, str, Entry]] = []

    def compact(self, group: Group, headline: ReasonCode | None) -> None:
        """Drop the entries of those who left; a headline that is told all the time is never asked for its first."""
        kept = {
            item[1]: item
            for item in self.line
            if item[2].alive and item[2].group is group and item[2].row.status.headline == headline
        }
        self.line = list(kept.values())
        heapify(self.line)

    def first(self, group: Group, headline: ReasonCode | None, count: int) -> list[tuple[Millis, str, Entry]]:
        """The first `count` that still wait and are not hidden."""
        found: list[tuple[Millis, str, Entry]] = []
        hidden: list[tuple[Millis, str, Entry]] = []
        while self.line and len(found) < count:
            item = heappop(self.line)
            entry = item[2]
            if found and found[-1][2] is entry:
                # Told this, then something else, then this again.
                continue
            if entry.alive and entry.group is group and entry.row.status.headline == headline:
                (hidden if entry.taken else found).append(item)
        for item in (*found, *hidden):
            heappush(self.line, item)
        return found


class GroupKey(NamedTuple):
    """What the tasks of one group have in common."""

    verdicts: Verdicts
    lifted: bool
    emergency_mask: int
    failed: bool
    bill: Bill | None


class Group:
    """Waiting tasks with the same verdicts and the same lift."""

    __slots__ = (
        "_able",
        "_pictures",
        "able_mask",
        "announced",
        "bill",
        "family",
        "gates",
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
        #: The model could do the work, whether or not policy lets it.
        self.able_mask = sum(1 << i for i, of in enumerate(fleet.model_of) if key.verdicts[of] not in UNABLE)
        #: Of each cell: the gate that refuses, or None.
        self.gates: Verdicts = ()
        #: Bit i: the i-th cell is admissible; or refused by `premium` alone, and by credit neither.
        self.mask = 0
        self.premium_mask = 0
        #: The emergency models that are kept back are closed to them.
        self.shut = False
        #: What was seen of the credit holds from this amount left on, and below that one.
        self.valid_from_uusd: float = 0.0
        self.valid_to_uusd: float = 0.0
        self.queue = AgeingQueue(ageing_ms, undo)
        #: Reason last announced -> those to whom it was announced.
        self.announced: dict[ReasonCode | None, Announced] = {}
        self._pictures: dict[tuple[int, int, Scores | None], Raw] = {}
        self._able: str | None = None

    def look(
        self, fleet: Fleet, conditions: Verdicts, available: Mapping[str, MicroUsd], *, keep_shut: bool = False
    ) -> None:
        """Lay over them what holds now; `keep_shut`: an emergency does not begin in the middle of a round."""
        verdicts, emergency_mask = self.key.verdicts, self.key.emergency_mask
        gates = [first(verdicts[of], condition) for of, condition in zip(fleet.model_of, conditions, strict=True)]
        unpaid = 0
        if self.bill is not None and self.family is not None:
            left = available[self.bill.tenant]
            costs = self.bill.exact or self.family.cheap
            for i, of in enumerate(fleet.model_of):
                if credit.exceeds(costs[of], left):
                    unpaid |= 1 << i
                    gates[i] = gates[i] or "credit"
            limits = [cost for cost in (*costs, *(() if self.bill.exact else self.family.dear)) if cost is not None]
            self.valid_from_uusd = max((cost for cost in limits if cost <= left), default=-inf)
            # What is seen in the middle of a round is looked at again after it.
            self.valid_to_uusd = -inf if keep_shut else min((cost for cost in limits if cost > left), default=inf)
        if emergency_mask:
            self.shut = emergency.closes(gates, emergency_mask) or (keep_shut and self.shut)
            if self.shut:
                emergency.close(gates, emergency_mask)
        self.gates = tuple(gates)
        self.mask = sum(1 << i for i, gate in enumerate(gates) if gate is None)
        self.premium_mask = sum(1 << i for i, gate in enumerate(gates) if gate == "premium") & ~unpaid
        self._pictures.clear()
        self._able = None

    def is_valid(self, left: MicroUsd) -> bool:
        """Whether what was last seen holds with this much credit left."""
        return self.valid_from_uusd <= left < self.valid_to_uusd

    def announce(self, entry: Entry) -> None:
        """The task was told the headline that its row has."""
        headline = entry.row.status.headline
        announced = self.announced.get(headline)
        if announced is None:
            announced = self.announced[headline] = Announced()
        announced.live += 1
        heappush(announced.line, (entry.since_ms, entry.task_id, entry))
        if len(announced.line) > 2 * announced.live + _ANNOUNCED_SPARE:
            announced.compact(self, headline)

    def withdraw(self, headline: ReasonCode | None) -> None:
        """One of those told this headline left, or was told another."""
        announced = self.announced[headline]
        announced.live -= 1
        if not announced.live:
            del self.announced[headline]

    def stale(self, headline: ReasonCode, count: int) -> list[tuple[Millis, str, Entry]]:
        """Up to `count` of those who were told something else than this, longest waiting first."""
        found: list[tuple[Millis, str, Entry]] = []
        for other, announced in self.announced.items():
            if other != headline:
                found += announced.first(self, other, count)
        return sorted(found)[:count]

    def able(self, fleet: Fleet) -> str:
        """Admissible models by name."""
        if self._able is None:
            models = {fleet.cells[i].model: None for i, gate in enumerate(self.gates) if gate is None}
            self._able = ", ".join(models)
        return self._able

    def headline(self, free_mask: int) -> ReasonCode:
        """Why these tasks wait, when the cells in `free_mask` have a free slot."""
        if self.premium_mask & free_mask:
            return "reserved_for_ev"
        if self.mask:
            return "capable_busy"
        gate = furthest(self.gates)
        return BY_GATE[gate].headline if gate is not None else "no_capable_model"

    def alternatives(self, fleet: Fleet, gates: Verdicts, free_mask: int, chosen: int, scores: Scores | None) -> Raw:
        """Every model's verdict and score as JSON, encoded once for each picture that occurs; `chosen` -1: none.

        `gates` are those of the moment of choice: those of now, unless the round has spent money since.
        """
        now = gates is self.gates
        key = (free_mask & self.mask, chosen, scores)
        raw = self._pictures.get(key) if now else None
        if raw is None:
            raw = _picture(fleet, gates, free_mask, chosen, scores)
            if now:
                if len(self._pictures) >= _PICTURES_MAX:
                    self._pictures.clear()
                self._pictures[key] = raw
        return raw


def _picture(fleet: Fleet, gates: Verdicts, free_mask: int, chosen: int, scores: Scores | None) -> Raw:
    free = sum(1 << i for i, gate in enumerate(gates) if gate is None) & free_mask
    words: dict[str, dict[str, object]] = {}
    for at, (model, mask) in enumerate(zip(fleet.models, fleet.model_masks, strict=True)):
        own = [gate for i, gate in enumerate(gates) if mask >> i & 1]
        if chosen >= 0 and mask >> chosen & 1:
            word: str = "chosen"
        elif None in own:
            word = "ok" if free & mask else "busy"
        else:
            word = furthest(own) or "busy"
        words[model] = {"gate": word}
        if scores is not None and (score := scores[at]) is not None:
            words[model]["score"] = score
    return Raw(encode(words))
