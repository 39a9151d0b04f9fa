"""A model must be good enough: every rating at least the task's bar for it."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.events import TaskPending
from schemas.vocabulary import Dimension
from streams.core.policy.catalog import Model


def refuses(task: TaskPending, model: Model) -> bool:
    """Whether a bar is above the model's rating."""
    return any(model.ratings[dimension] < bar for dimension, bar in task.requires.items())


def missing(task: TaskPending, model: Model) -> str:
    """What the model lacks: `safety 8 < 9`."""
    return ", ".join(
        f"{dimension} {model.ratings[dimension]} < {bar}"
        for dimension, bar in sorted(task.requires.items())
        if model.ratings[dimension] < bar
    )


def bars(requires: Mapping[Dimension, int]) -> str:
    """The requirement in words: `coding>=8, safety>=9`, or `no requirement`."""
    return ", ".join(f"{dimension}>={bar}" for dimension, bar in sorted(requires.items())) or "no requirement"
