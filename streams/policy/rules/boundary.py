"""A boundary no score can beat: provider lists, local only, a highest tier."""

from __future__ import annotations

from schemas.events import TaskPending
from streams.policy.catalog import Model


def refuses(task: TaskPending, model: Model) -> bool:
    """Whether the task may not go to this model's provider, place or tier."""
    return (
        (task.local_only and not model.local)
        or (bool(task.allow_providers) and model.provider not in task.allow_providers)
        or model.provider in task.deny_providers
        or (task.max_tier is not None and model.tier > task.max_tier)
    )
