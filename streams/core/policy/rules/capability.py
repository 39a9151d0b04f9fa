"""A model must be good enough: every rating at least the task's bar for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.vocabulary import Dimension
from streams.core.policy.case import Candidate, Case
from streams.core.policy.catalog import Model


class Capability:
    """The ratings against the bars of the task."""

    gate: Final = "capability"
    headline: Final = "no_capable_model"
    looks_at: Final = "task"
    task_fields: Final = ()
    unable: Final = True
    means: Final = "does not reach what the task requires"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether a bar is above the model's rating."""
        ratings = at.model.ratings
        return any(ratings[dimension] < bar for dimension, bar in case.task.requires.items())

    def reason(self, case: Case, at: Candidate) -> str:
        """Which ratings are too low."""
        return f"{at.model.id} is not good enough: {_missing(case, at)}."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """Lower bars for the ratings that are too low."""
        model = refused[0].model
        lower = ", ".join(
            f"requires.{dimension} to {model.ratings[dimension]} (now {bar})" for dimension, bar in _short(case, model)
        )
        return f"Lower {lower}; or rate {model.id} so high in the catalogue, if it is."

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """What each model of the fleet lacks."""
        lacking = "; ".join(dict.fromkeys(f"{at.model.id}: {_missing(case, at)}" for at in refused))
        return f"No model of the fleet is good enough for {bars(case.task.requires)} ({lacking})."


def bars(requires: Mapping[Dimension, int]) -> str:
    """The requirement in words: `coding>=8, safety>=9`; empty where there is none."""
    return ", ".join(f"{dimension}>={bar}" for dimension, bar in sorted(requires.items()))


def _short(case: Case, model: Model) -> list[tuple[Dimension, int]]:
    """The bars above the model's ratings."""
    return [(dimension, bar) for dimension, bar in sorted(case.task.requires.items()) if model.ratings[dimension] < bar]


def _missing(case: Case, at: Candidate) -> str:
    """What the model lacks: `safety 8 < 9`."""
    return ", ".join(f"{dimension} {at.model.ratings[dimension]} < {bar}" for dimension, bar in _short(case, at.model))
