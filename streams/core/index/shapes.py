"""Makes the shapes of tasks, once for each kind of task and fleet."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from schemas.decision import TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import Complexity, MicroUsd, Millis
from streams.core.index.family import Costs
from streams.core.index.fleet import Fleet, Verdicts
from streams.core.index.shape import Shape
from streams.core.policy.case import Candidate, Case
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import BY_GATE, TASK_RULES, UNABLE, capability, context, emergency, refusing_task

#: Cached shapes; no real producer sends more different ones.
_SHAPES_MAX: Final = 4_096
ShapeKey = tuple[object, ...]
#: Fields of a task's event that the rules read.
_FIELDS_OF: Final = attrgetter(*dict.fromkeys(chain.from_iterable(rule.task_fields for rule in TASK_RULES)))


class Shapes:
    """The shapes of tasks with one rulebook and one fleet, at the prices of one time."""

    def __init__(self, rulebook: Rulebook, fleet: Fleet, priced_ms: Millis) -> None:
        """`priced_ms` is a time at which the present prices hold."""
        self._rulebook = rulebook
        self._fleet = fleet
        self._priced_ms = priced_ms
        #: The models of the fleet, in its order.
        self.models = tuple(rulebook.models[model] for model in fleet.models)
        self._candidates = tuple(Candidate(model) for model in self.models)
        self._known: dict[ShapeKey, Shape] = {}

    def of(self, row: TaskRow) -> Shape:
        """Return the task's shape; where a rule raises, the shape is for the static fallback."""
        try:
            return self._of(row)
        except Exception:  # noqa: BLE001 -- an error in a rule must not stop other tasks: the static fallback decides
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
            _FIELDS_OF(task),
            # The length is part of the shape only where it may exceed a model's window.
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
        """Return properties that few tasks have: a strategy, a lane or role with rules of its own, advice."""
        task, policy, advice = row.task, self._rulebook.policy, row.advice
        lane = task.lane if task.lane in policy.lane else None
        role = task.agent_role if task.agent_role in policy.floor.by_role else None
        listed = task.task_type if task.task_type in policy.strategy.preference else None
        if lane is None and role is None and task.strategy is None and advice is None:
            return None if policy.strategy.default != "preference" else (listed,)
        said = (advice.strategy, advice.ranking, tuple(sorted(advice.refused))) if advice is not None else None
        return (lane, role, task.strategy, listed, said)

    def _fits(self, task: TaskPending, complexity: Complexity | None) -> tuple[bool, ...]:
        answer_tokens = self._rulebook.answer_tokens
        return tuple(
            not context.overflows(task.input_tokens, answer_tokens(task, complexity, model), model)
            for model in self.models
        )

    def _new(self, row: TaskRow, complexity: Complexity | None) -> Shape:
        task, advice, policy = row.task, row.advice, self._rulebook.policy
        strategy = policy.strategy_of(task)
        listed = policy.strategy.ranking(task) if strategy == "preference" else ()
        ranking = listed
        if advice is not None and advice.strategy == (
            policy.strategy.fallback if strategy == "preference" else strategy
        ):
            # After a list the policy's default follows, which may be a plug-in's strategy.
            ranking += tuple(model for model in advice.ranking if model not in listed)
        # A shape does not depend on time: only rules that look at the task are asked.
        case = Case(
            rulebook=self._rulebook,
            task=task,
            complexity=complexity,
            escalated_tier=row.status.tier_min,
            ruled_out=advice.refused if advice is not None else {},
            # A plug-in that ranks all models does not ask for the emergency model by that.
            listed=listed,
        )
        verdicts = tuple([refusing_task(case, at) for at in self._candidates])
        able = tuple(model for model, gate in zip(self.models, verdicts, strict=True) if gate not in UNABLE)
        low = replace(case, is_low=True, in_reach=able)
        premium = BY_GATE["premium"]
        emergencies = [model.id for model in self.models if emergency.is_emergency_only(model, task, listed)]
        below = tuple([refusing_task(replace(case, class_gave_way=True), at) for at in self._candidates])
        return Shape(
            bars=capability.bars(task.requires),
            complexity=complexity,
            strategy=strategy,
            ranking=ranking,
            listed=len(listed),
            emergency_mask=self._fleet.masks_of(emergencies),
            verdicts=verdicts,
            verdicts_below=below if complexity is not None and below != verdicts else None,
            has_floor=any(premium.refuses(low, at) for at in self._candidates if at.model in able),
        )

    def _failed(self, task: TaskPending) -> Shape:
        """Return the shape for the static fallback: capable models, or all where capability cannot be evaluated."""
        rule, case = capability.Capability(), Case(rulebook=self._rulebook, task=task, complexity=None)
        try:
            verdicts: Verdicts = tuple(rule.gate if rule.refuses(case, at) else None for at in self._candidates)
        except Exception:  # noqa: BLE001 -- as above
            verdicts = (None,) * len(self.models)
        return Shape(
            bars="",
            complexity=task.complexity,
            strategy="cheapest_capable",
            verdicts=verdicts,
            failed=True,
        )

    def costs(self, task: TaskPending, shape: Shape) -> Costs:
        """Return the estimated cost of the task on each model of the fleet."""
        return self._rulebook.costs_uusd(task, shape.complexity, self.models, self._priced_ms)

    def cost_uusd(self, task: TaskPending, shape: Shape, place: int) -> MicroUsd | None:
        """Return the estimated cost of the task on the model at this place of the fleet; None: a price is unknown."""
        return self._rulebook.cost_uusd(task, shape.complexity, self.models[place], self._priced_ms)
