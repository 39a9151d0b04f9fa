"""Scores, computed once for each combination of candidates, objective, profile and mix of tokens."""

from __future__ import annotations

from typing import Final

from schemas.events import TaskPending
from schemas.vocabulary import Complexity
from streams.core.index.fleet import Fleet, Scores
from streams.core.policy.rulebook import Rulebook, expected_output
from streams.core.policy.score import context_penalty, mix, scores

_SCORES_MAX: Final = 16_384


class ScoreCache:
    """The scores of one fleet's models with one rulebook."""

    def __init__(self, rulebook: Rulebook, fleet: Fleet) -> None:
        self._rulebook = rulebook
        self._fleet = fleet
        self._known: dict[tuple[object, ...], Scores] = {}

    def among(self, cells: int, task: TaskPending, complexity: Complexity | None) -> Scores | None:
        """Return the score of each model with a cell in the mask; None for the others."""
        if not cells:
            return None
        rulebook = self._rulebook
        policy = rulebook.policy
        lane = policy.lane_of(task.lane)
        objective = policy.objective.resolve(task, complexity, lane.objective if lane is not None else None)
        profile = task.profile or (lane.profile if lane is not None else None)
        most = rulebook.max_tokens(complexity, task.output_tokens)
        mix16 = mix(task.input_tokens, expected_output(task, most))
        role = task.agent_role if task.agent_role in rulebook.roles else None
        full = (task.input_tokens, most) if task.input_tokens > rulebook.input_tokens_roomy else None
        key = (cells, objective, profile, mix16, role, full)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _SCORES_MAX:
                self._known.clear()
            places = [i for i, mask in enumerate(self._fleet.model_masks) if mask & cells]
            models = [rulebook.models[self._fleet.models[i]] for i in places]
            found = scores(
                models,
                objective=objective,
                profile=profile,
                mix16=mix16,
                penalties=[context_penalty(model, *full, policy.score) if full else 0.0 for model in models],
                role=role,
                policy=policy.score,
            )
            by_place = dict(zip(places, found, strict=True))
            known = self._known[key] = tuple(by_place.get(i) for i in range(len(self._fleet.models)))
        return known
