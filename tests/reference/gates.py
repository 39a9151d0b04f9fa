"""Which models a task may use: the gates, asked in order of every model and account that has a slot in service."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from math import inf
from typing import Any

from tests.reference.conditions import View
from tests.reference.money import Ledger
from tests.reference.prices import is_free
from tests.reference.rules import Model, Rules
from tests.reference.slot import Slot
from tests.reference.spend import Spend
from tests.reference.task import Task

GATES = ("capability", "context", "boundary", "floor", "exhausted", "drained", "quota", "premium", "credit")
HEADLINES = {"capability": "no_capable_model", "premium": "reserved_for_ev"}
EMERGENCY = "local emergency"
PREMIUM_TIER = 3
#: A percentile is known to so many parts of itself: an EV that equals it is neither below nor above.
EXACT = 1e-9
Cell = tuple[str, str | None]


class Gates:
    """The gates of one pool at one moment."""

    def __init__(
        self, rules: Rules, view: View, slots: Iterable[Slot], now_ms: int, spend: Spend | None = None
    ) -> None:
        self.spend = spend
        self.rules, self.view, self.now_ms = rules, view, now_ms
        self._known: dict[tuple[str, int, str, bool], str | None] = {}
        fleet = [slot for slot in slots if not slot.retired]
        self.cells: list[Cell] = [
            cell for model in rules.model for cell in {slot.cell for slot in fleet} if cell[0] == model
        ]
        self.in_service = {slot.cell for slot in fleet if slot.state != "lost"}
        #: Those that will do work sooner or later: of what operators and probes say a drain alone may have no end.
        self.in_reach = {cell for cell in self.in_service if self.view.drains.get(cell[0]) != inf}

    def cell_verdicts(
        self,
        task: Task,
        p50: float | None,
        ledger: Ledger | None,
        *,
        closed: bool | None = None,
        gave_way: bool | None = None,
    ) -> dict[Cell, str | None]:
        """The first gate that refuses, for each cell.

        `closed` and `gave_way` say of the emergency model and of the bar of the class what the verdicts do not.
        """
        regular = [cell for cell in self.cells if self.is_regular(task, cell[0])]
        cheaper = any(
            self.rules.tier[cell[0]] < PREMIUM_TIER and cell in self.in_reach and not self._unable(task, cell[0])
            for cell in regular
        )
        said = {cell: self._gate(task, cell, cheaper, p50, ledger) for cell in self.cells}
        if gave_way is None:
            gave_way = self.is_short_of_credit(task, said)
        if gave_way:
            for cell in [cell for cell, gate in said.items() if gate == "floor"]:
                said[cell] = self._gate(task, cell, cheaper, p50, ledger, gave_way=True)
        if closed is None:
            closed = None in [said[cell] for cell in regular if cell in self.in_service]
        if closed:
            for cell in self.cells:
                if cell not in regular and said[cell] not in ("capability", "context"):
                    said[cell] = "boundary"
        return said

    def is_short_of_credit(self, task: Task, said: Mapping[Cell, str | None]) -> bool:
        """Whether nothing but credit refuses the last models at the bar of its class, which then gives way."""
        regular = {cell: gate for cell, gate in said.items() if self.is_regular(task, cell[0])}
        lower = self.rules.lower_bar(task.event) < self.rules.bar(task.event)
        open_to = [cell for cell, gate in regular.items() if gate is None and cell in self.in_service]
        return lower and not open_to and "credit" in regular.values()

    def gives_way(self, task: Task, p50: float | None, ledger: Ledger | None) -> bool:
        """Whether the bar of its class gives way to credit."""
        return self.is_short_of_credit(task, self.cell_verdicts(task, p50, ledger, closed=False, gave_way=False))

    def is_regular(self, task: Task, model: str) -> bool:
        """Whether it is always a candidate, not in an emergency only."""
        emergency = EMERGENCY in self.rules.model[model].get("roles", [])
        return not emergency or task.event.local_only or model in self.rules.listed(task.event)

    def _gate(
        self,
        task: Task,
        cell: Cell,
        cheaper: bool,
        p50: float | None,
        ledger: Ledger | None,
        *,
        gave_way: bool = False,
    ) -> str | None:
        name, account = cell
        model = self.rules.model[name]
        if unable := self._unable(task, name, gave_way=gave_way):
            return unable
        if self.view.exhausted(model["product"], account, self.now_ms):
            return "exhausted"
        if self.view.drained(name, self.now_ms):
            return "drained"
        if self._used_up(model, account):
            return "quota"
        low = p50 is not None and (task.ev is None or task.ev < p50 - abs(p50) * EXACT)
        ordinary = task.event.priority < self.rules.section("premium")["priority_min"]
        if low and ordinary and not self.is_patient(task) and cheaper and model["tier"] == PREMIUM_TIER:
            return "premium"
        return None if self.is_paid(task, name, ledger) else "credit"

    def is_paid(self, task: Task, name: str, ledger: Ledger | None) -> bool:
        """Whether the tenant has what the task would cost on the model, or owes something and it costs nothing ever."""
        if is_free(self.rules.model[name]):
            return True
        if self.is_barred(task, name):
            return False
        estimate = self.rules.estimate(task.event, self.rules.model[name], self.now_ms)
        return ledger is None or (estimate is not None and ledger.available >= estimate)

    def is_barred(self, task: Task, name: str) -> bool:
        """Whether what was spent in the last hour bars it from the model."""
        if is_free(self.rules.model[name]) or self.spend is None:
            return False
        level = self.spend.level(task, self.rules, self.view, self.now_ms)
        return level >= 3 or (level >= 2 and self.rules.tier[name] == PREMIUM_TIER)

    def _unable(self, task: Task, name: str, *, gave_way: bool = False) -> str | None:
        """The first of the gates that look at the task and the model only; asked of every account of the model."""
        key = (task.id, task.tier_min, name, gave_way)
        if key not in self._known:
            self._known[key] = self._unable_for(task, name, gave_way=gave_way)
        return self._known[key]

    def _unable_for(self, task: Task, name: str, *, gave_way: bool) -> str | None:
        event, rules, model = task.event, self.rules, self.rules.model[name]
        lane = rules.lane(event)
        refused = task.advice.refused if task.advice is not None else {}
        if any(model["ratings"][dimension] < bar for dimension, bar in event.requires.items()):
            return "capability"
        if rules.is_too_long(event, model):
            return "context"
        if (
            model["provider"] in event.deny_providers
            or (event.allow_providers and model["provider"] not in event.allow_providers)
            or (event.local_only and not model["local"])
            or model["tier"] > (event.max_tier or 3)
            or name in rules.section("boundary").get("exclude_models", [])
            or name in lane.get("exclude_models", [])
            or (lane.get("allow_models") and name not in lane["allow_models"])
            or name in refused
        ):
            return "boundary"
        return "floor" if model["tier"] < max(task.tier_min, rules.floor(event, gave_way=gave_way)) else None

    def is_patient(self, task: Task) -> bool:
        """Whether it has waited so long that nothing is kept from it."""
        return self.patient_ms(task) <= self.now_ms

    def patient_ms(self, task: Task) -> int:
        """When it has, or will have."""
        service = self.rules.section("service")
        points: int = service["patience_points"] - task.event.priority
        ageing_ms: int = round(service["ageing_s_per_point"] * 1000)
        return task.since_ms + points * ageing_ms

    def _used_up(self, model: Model, account: str | None) -> bool:
        return any(
            any(
                one["product"] == model["product"] and one.get("tier", model["tier"]) == model["tier"]
                for one in step.get("refuse", [])
            )
            for step in self._reached(account)
        )

    def _reached(self, account: str | None) -> list[dict[str, Any]]:
        """The steps of the degradation curve that usage has reached."""
        steps = self.rules.section("quota").get("step", [])
        return [step for step in steps if self.view.usage(step["usage_of"], account, self.now_ms) >= step["from_share"]]

    def flags(self) -> set[str]:
        """What the reached steps are called."""
        return {str(step["flag"]) for _, account in self.cells for step in self._reached(account) if "flag" in step}


def furthest(said: Mapping[Cell, str | None]) -> dict[str, str | None]:
    """Of each model, the verdict of the cell that got furthest; None: one passed."""
    verdicts: dict[str, str | None] = {}
    for (model, _), gate in said.items():
        so_far = verdicts.get(model, GATES[0])
        verdicts[model] = None if gate is None or so_far is None else max(gate, so_far, key=GATES.index)
    return verdicts


def headline(said: Mapping[Cell, str | None], kept: Iterable[Cell], in_service: Container[Cell]) -> str:
    """Why a task waits, when slots of these cells are free and it could pay for them."""
    admitted = [cell for cell, gate in said.items() if gate is None]
    if admitted and not any(cell in in_service for cell in admitted):
        return "lost"
    if any(said.get(cell) == "premium" for cell in kept):
        return "reserved_for_ev"
    if None in said.values():
        return "capable_busy"
    word = max((gate for gate in said.values() if gate is not None), key=GATES.index, default="capability")
    return HEADLINES.get(word, word)
