"""What is alike about tasks: their shapes, made once for each kind of task and fleet."""

from __future__ import annotations

from typing import Final

from schemas.decision import TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Gate
from streams.core.index.fleet import Fleet
from streams.core.index.groups import Costs, Shape, Verdicts
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import capability, context, emergency, floor

#: Shapes remembered; more different ones than this come from nobody but a fuzzer.
_SHAPES_MAX: Final = 4_096
ShapeKey = tuple[object, ...]


class Shapes:
    """The shapes of tasks with one rulebook and one fleet."""

    def __init__(self, rulebook: Rulebook, fleet: Fleet) -> None:
        self._rulebook = rulebook
        #: The models of the fleet, in its order.
        self.models: tuple[Model, ...] = tuple(rulebook.models[model] for model in fleet.models)
        self._known: dict[ShapeKey, Shape] = {}

    def of(self, row: TaskRow) -> Shape:
        """The task's shape; one that no rule can look at without a mistake is left to the static fallback."""
        try:
            return self._of(row)
        except Exception:  # noqa: BLE001 -- a mistake in a rule must not stop the others: the static fallback decides
            return self._failed(row.task)

    def _of(self, row: TaskRow) -> Shape:
        task = row.task
        requires = task.requires
        rulebook = self._rulebook
        complexity = rulebook.complexity(task)
        key: ShapeKey = (
            tuple(sorted(requires.items())) if len(requires) > 1 else tuple(requires.items()),
            row.status.tier_min,
            complexity,
            task.floor_model,
            task.max_tier,
            task.local_only,
            task.allow_providers,
            task.deny_providers,
            # Whether it fits is part of its shape only where there is a model that it may not fit.
            self._fits(task, complexity) if task.input_tokens > rulebook.input_tokens_safe else None,
            self._own_ways(row),
        )
        shape = self._known.get(key)
        if shape is None:
            if len(self._known) >= _SHAPES_MAX:
                self._known.clear()
            shape = self._known[key] = self._new(row, complexity)
        return shape

    def _own_ways(self, row: TaskRow) -> tuple[object, ...] | None:
        """What few tasks have: a strategy, a lane or a role with rules of its own, a plug-in's word."""
        task, policy, advice = row.task, self._rulebook.policy, row.advice
        lane = task.lane if task.lane in policy.lane else None
        role = task.agent_role if task.agent_role in policy.floor.by_role else None
        listed = task.task_type if task.task_type in policy.strategy.preference else None
        if lane is None and role is None and task.strategy is None and advice is None:
            return None if policy.strategy.default != "preference" else (listed,)
        said = (advice.strategy, advice.ranking, tuple(sorted(advice.refused))) if advice is not None else None
        return (lane, role, task.strategy, listed, said)

    def _fits(self, task: TaskPending, complexity: Complexity | None) -> tuple[bool, ...]:
        max_tokens = self._rulebook.max_tokens(complexity, task.output_tokens)
        return tuple(not context.refuses(task, max_tokens, model) for model in self.models)

    def _new(self, row: TaskRow, complexity: Complexity | None) -> Shape:
        task, advice, rulebook = row.task, row.advice, self._rulebook
        policy = rulebook.policy
        lane = policy.lane_of(task.lane)
        strategy = policy.strategy_of(task)
        listed = policy.strategy.ranking(task) if strategy == "preference" else ()
        ranking = listed
        if advice is not None and advice.strategy == (
            policy.strategy.fallback if strategy == "preference" else strategy
        ):
            # At the end of a list the policy's default goes on, which may be a plug-in's.
            ranking += tuple(model for model in advice.ranking if model not in listed)
        ruled_out = advice.refused if advice is not None else ()
        tier_min = policy.floor.tier_min(
            task, row.status.tier_min, policy.complexity_tier_min, complexity, rulebook.models
        )
        max_tokens = rulebook.max_tokens(complexity, task.output_tokens)
        models = self.models
        verdicts: list[Gate | None] = []
        for model in models:
            if capability.refuses(task, model):
                verdicts.append("capability")
            elif context.refuses(task, max_tokens, model):
                verdicts.append("context")
            elif policy.boundary.refuses(task, model, lane, ruled_out):
                verdicts.append("boundary")
            elif floor.refuses(tier_min, model):
                verdicts.append("floor")
            else:
                verdicts.append(None)
        reserve = [model for model in models if emergency.is_reserve(model)]
        # A plug-in that sorts all models does not mean to ask for this one.
        asked_for = any(emergency.is_asked_for(task, model, listed) for model in reserve)
        # The sole-capable exception: premium refuses only where something cheaper is capable at all, in ordinary times.
        cheaper = any(
            gate is None and model.tier < PREMIUM_TIER and (asked_for or model not in reserve)
            for model, gate in zip(models, verdicts, strict=True)
        )
        reserved: list[Gate | None] = [
            "premium" if gate is None and cheaper and model.tier >= PREMIUM_TIER else gate
            for model, gate in zip(models, verdicts, strict=True)
        ]
        return Shape(
            bars=capability.bars(task.requires),
            complexity=complexity,
            strategy=strategy,
            ranking=ranking,
            listed=len(listed),
            asked_for=asked_for,
            open=tuple(verdicts),
            reserved=tuple(reserved),
        )

    def _failed(self, task: TaskPending) -> Shape:
        """What the static fallback goes by: whoever is capable, and whoever there is where that cannot be told."""
        try:
            verdicts: Verdicts = tuple(
                "capability" if capability.refuses(task, model) else None for model in self.models
            )
        except Exception:  # noqa: BLE001 -- as above
            verdicts = (None,) * len(self.models)
        return Shape(
            bars="",
            complexity=task.complexity,
            strategy="cheapest_capable",
            asked_for=True,
            open=verdicts,
            reserved=verdicts,
            failed=True,
        )

    def costs(self, task: TaskPending, shape: Shape) -> Costs:
        """What the task would cost on each model of the fleet."""
        rulebook = self._rulebook
        complexity = shape.complexity
        return tuple(
            [
                model.cost_uusd(task.input_tokens, rulebook.output_tokens(task, complexity, model))
                for model in self.models
            ]
        )
