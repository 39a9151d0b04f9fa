"""A boundary no score can beat: provider lists, local only, a highest tier, what an operator or a plug-in excludes."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Word
from streams.core.policy.catalog import Model
from streams.core.policy.lane_policy import LanePolicy


class BoundaryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator takes out of everybody's reach."""

    #: Never these, by id.
    exclude_models: tuple[Word, ...] = ()

    def refuses(self, task: TaskPending, model: Model, lane: LanePolicy | None, ruled_out: Collection[str]) -> bool:
        """Whether the task may not go to this model, its provider, place or tier."""
        return (
            (task.local_only and not model.local)
            or (bool(task.allow_providers) and model.provider not in task.allow_providers)
            or model.provider in task.deny_providers
            or (task.max_tier is not None and model.tier > task.max_tier)
            or model.id in self.exclude_models
            or (lane is not None and _excluded(lane, model))
            or model.id in ruled_out
        )


def _excluded(lane: LanePolicy, model: Model) -> bool:
    return model.id in lane.exclude_models or (bool(lane.allow_models) and model.id not in lane.allow_models)
