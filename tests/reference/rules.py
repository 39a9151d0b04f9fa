"""The catalogue and the policy as they stand in their texts, and what they make of one task."""

from __future__ import annotations

import tomllib
from typing import Any

from schemas.events import TaskPending
from tests.reference.prices import price
from tests.reference.task import Task

CLASSES = ("trivial", "simple", "standard", "complex", "expert")
Model = dict[str, Any]


class Rules:
    """Two texts, read."""

    def __init__(self, catalog: str, policy: str) -> None:
        self.models: list[Model] = tomllib.loads(catalog)["model"]
        self.policy: dict[str, Any] = tomllib.loads(policy)
        self.model = {model["id"]: model for model in self.models}
        self.tier: dict[str, int] = {model["id"]: model["tier"] for model in self.models}
        self.products = {model["product"]: model["provider"] for model in self.models}

    def section(self, *names: str) -> dict[str, Any]:
        """That part of the policy; empty where it says nothing."""
        found: dict[str, Any] = self.policy
        for name in names:
            found = found.get(name, {})
        return found

    def class_of(self, event: TaskPending) -> str | None:
        """How hard the task is: as given, or by the points of what it says of itself."""
        if event.complexity is not None or event.agent_role is None:
            return event.complexity
        table = self.section("complexity")
        points = table.get("by_role", {}).get(event.agent_role, table["other_role"])
        if event.requires_reasoning:
            points += table["requires_reasoning"]
        reached = [
            row["points"]
            for row in table.get("by_output_length", [])
            if event.output_length_target is not None and event.output_length_target > row["above_words"]
        ]
        points += reached[-1] if reached else 0
        reached = [
            row["points"]
            for row in table.get("by_context_richness", [])
            if event.context_richness is not None and event.context_richness >= row["from_share"]
        ]
        points += reached[-1] if reached else 0
        place = sum(points >= table["from_points"][name] for name in CLASSES[1:])
        for row in table.get("at_least", []):
            long = "above_words" not in row or (event.output_length_target or 0) > row["above_words"]
            if long and (event.requires_reasoning or not row.get("requires_reasoning", False)):
                place = max(place, CLASSES.index(row["class"]))
        return CLASSES[min(place + event.has_revision_history, 4)]

    def answer_tokens(self, event: TaskPending) -> int:
        """Most tokens that it may produce, before the model's own limit."""
        output, hard = self.section("output"), self.class_of(event)
        if hard is not None:
            return int(output["by_complexity_tokens"][hard])
        if event.output_tokens is not None:
            return max(1, int(event.output_tokens * output["headroom"]))
        return int(output["default_tokens"])

    def estimate(self, event: TaskPending, model: Model, now_ms: int) -> int | None:
        """What the task would cost on the model, in micro-dollars; None where a price is unknown."""
        return price(model, event.input_tokens, self.guess_tokens(event, model), now_ms)

    def guess_tokens(self, event: TaskPending, model: Model) -> int:
        """How much it will probably produce on the model: what it says, within the limits."""
        limit = self.longest_answer(event, model)
        return limit if event.output_tokens is None else min(event.output_tokens, limit)

    def longest_answer(self, event: TaskPending, model: Model) -> int:
        """Most tokens that it may produce on the model: as many as the prompt leaves, down to the policy's least."""
        limit = min(self.answer_tokens(event), int(model["output_tokens_max"]))
        least = min(limit, int(self.section("output").get("tokens_min", 1024)))
        return max(least, min(limit, int(model["context_window"]) - event.input_tokens))

    def is_too_long(self, event: TaskPending, model: Model) -> bool:
        """Whether the prompt, or the prompt and the shortest answer, are more than the model takes."""
        filled = event.input_tokens + self.longest_answer(event, model)
        return bool(event.input_tokens > model.get("input_tokens_max", filled) or filled > model["context_window"])

    def lease_ms(self, event: TaskPending) -> int:
        """How long it may hold a slot."""
        leases = self.section("leases")
        if event.lease_s is not None:
            most_s: float = leases["asked_max_s"]
            return round(min(event.lease_s, most_s) * 1000)
        limit_s: float = leases["by_complexity_s"].get(self.class_of(event), leases["default_s"])
        return round(limit_s * 1000)

    def renewals_max(self, event: TaskPending) -> int:
        """How often its lease may be renewed."""
        leases = self.section("leases")
        return int(leases["renewals_by_complexity_max"].get(self.class_of(event), leases["renewals_max"]))

    def bar(self, event: TaskPending) -> int:
        """The lowest tier for its class."""
        return int(self.section("complexity_tier_min").get(self.class_of(event) or "", 1))

    def lower_bar(self, event: TaskPending) -> int:
        """The bar after it gave way: the next lower one of the classes below its own, if there is one."""
        name = self.class_of(event)
        below = CLASSES[: CLASSES.index(name)] if name is not None else ()
        bars = sorted(self.section("complexity_tier_min").get(easier, 1) for easier in below)
        return int(max([bar for bar in bars if bar < self.bar(event)], default=self.bar(event)))

    def floor(self, event: TaskPending, *, gave_way: bool = False) -> int:
        """The lowest tier it may use, escalation apart."""
        role = self.section("floor", "by_role").get(event.agent_role or "")
        bar = self.lower_bar(event) if gave_way else self.bar(event)
        given = self.tier[event.floor_model] if event.floor_model else 1
        return max(given, self.tier[role] if role else 1, bar)

    def lane(self, event: TaskPending) -> dict[str, Any]:
        """What the task's lane has otherwise."""
        return self.section("lane", event.lane) if event.lane is not None else {}

    def listed(self, event: TaskPending) -> list[str]:
        """The models that its kind of work prefers, if it goes by preference."""
        lists: dict[str, list[str]] = self.section("strategy", "preference")
        return lists.get(event.task_type or "", []) if self.word(event) == "preference" else []

    def liked(self, task: Task) -> list[str]:
        """The models to try one by one: those listed, then those that a plugged-in strategy would try."""
        word, default, advice = self.word(task.event), str(self.section("strategy")["default"]), task.advice
        asked = default if word == "preference" and default != "preference" else word
        plugged = advice.ranking if advice is not None and advice.strategy == asked else ()
        return [*self.listed(task.event), *plugged]

    def word(self, event: TaskPending) -> str:
        """The strategy that the task, its lane or the policy names."""
        default = self.section("strategy")["default"]
        return str(event.strategy or self.lane(event).get("strategy") or default)

    def otherwise(self) -> str:
        """How a slot is chosen where no list helps."""
        return "objective" if self.section("strategy")["default"] == "objective" else "cheapest_capable"

    def objective(self, event: TaskPending) -> str:
        """What its score is to favour."""
        table = self.section("objective")
        by_type = table.get("by_task_type", {}).get(event.task_type)
        by_class = table.get("by_complexity", {}).get(self.class_of(event))
        return str(event.objective or self.lane(event).get("objective") or by_type or by_class or table["default"])

    def profile(self, event: TaskPending) -> str | None:
        """Whether its score leans to the fast or to the strong."""
        return event.profile or self.lane(event).get("profile")
