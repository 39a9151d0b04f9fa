"""Scores, computed once for each combination of candidates, objective, profile and mix of tokens."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Millis
from streams.core.index.fleet import Fleet, Scores
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import Rulebook, expected_output
from streams.core.policy.score import context_penalty, mix, scores, usd_per_mtok
from streams.core.policy.tariff import Tariff

_SCORES_MAX: Final = 16_384


class ScoreCache:
    """The scores of one fleet's models with one rulebook, at the prices of one time."""

    def __init__(self, rulebook: Rulebook, fleet: Fleet, priced_ms: Millis) -> None:
        """`priced_ms` is a time at which the present prices hold."""
        self._rulebook = rulebook
        self._fleet = fleet
        self._priced_ms = priced_ms
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
        output_tokens = expected_output(task, most)
        mix16 = mix(task.input_tokens, output_tokens)
        role = task.agent_role if task.agent_role in rulebook.roles else None
        full = (task.input_tokens, most) if task.input_tokens > rulebook.input_tokens_roomy else None
        # The length of the input counts only where it reaches another step of prices, the number of tokens for fees.
        step = bisect_left(rulebook.price_lengths, task.input_tokens) if rulebook.price_lengths else 0
        tokens = task.input_tokens + output_tokens if rulebook.has_fees else 1
        key = (cells, objective, profile, mix16, role, full, step, tokens)
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
                prices=[self._price(model.tariff, task.input_tokens, mix16, tokens) for model in models],
                penalties=[self._penalty(model, task, complexity) if full else 0.0 for model in models],
                role=role,
                policy=policy.score,
            )
            by_place = dict(zip(places, found, strict=True))
            known = self._known[key] = tuple(by_place.get(i) for i in range(len(self._fleet.models)))
        return known

    def _penalty(self, model: Model, task: TaskPending, complexity: Complexity | None) -> float:
        answer_tokens = self._rulebook.answer_tokens(task, complexity, model)
        return context_penalty(model, task.input_tokens, answer_tokens, self._rulebook.policy.score)

    def _price(self, tariff: Tariff, input_tokens: int, mix16: int, tokens: int) -> float | None:
        return usd_per_mtok(tariff.rates(input_tokens, self._priced_ms), tariff.fee_uusd, mix16, tokens)
