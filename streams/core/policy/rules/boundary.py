"""Boundaries no score can outweigh: provider lists, local only, a highest tier, exclusions by operator or plug-in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Word
from streams.core.policy.case import Candidate, Case, each_once
from streams.core.policy.catalog import Model
from streams.core.policy.rules import emergency

#: Most boundaries that the reason of a waiting task names.
_NAMED_MAX: Final = 3


class BoundaryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that an operator excludes for every task."""

    #: Excluded models, by id.
    exclude_models: tuple[Word, ...] = ()


class Bound(NamedTuple):
    """One boundary that excludes a model, and what would open it."""

    says: str
    opens: str


class Boundary:
    """Also the verdict on an emergency model that is closed."""

    gate: Final = "boundary"
    headline: Final = "boundary"
    looks_at: Final = "task"
    task_fields: Final = ("max_tier", "local_only", "allow_providers", "deny_providers")
    unable: Final = True
    means: Final = "is not allowed for this task or tenant"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether the task may not go to this model, its provider, place or tier."""
        return any(True for _ in _bounds(case, at.model))

    def reason(self, case: Case, at: Candidate) -> str:
        """Every boundary that excludes the model."""
        return each_once(bound.says for bound in _bounds(case, at.model))

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The removal of each of them."""
        opens = " And ".join(bound.opens for bound in _bounds(case, refused[0].model))
        return opens[:1].upper() + opens[1:]

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The boundaries that exclude all models."""
        named = dict.fromkeys(bound.says for at in refused for bound in _bounds(case, at.model))
        return " ".join(["No capable model of the fleet is allowed.", *islice(named, _NAMED_MAX)])


def _bounds(case: Case, model: Model) -> Iterator[Bound]:
    task, policy = case.task, case.rulebook.policy
    id_, lane, lane_policy = model.id, task.lane, policy.lane_of(task.lane)
    if id_ in policy.boundary.exclude_models:
        yield Bound(f"The policy excludes {id_}.", f"take {id_} out of boundary.exclude_models in the policy.")
    if lane_policy is not None and id_ in lane_policy.exclude_models:
        yield Bound(f"Lane {lane} excludes {id_}.", f"take {id_} out of lane.{lane}.exclude_models in the policy.")
    if lane_policy is not None and lane_policy.allow_models and id_ not in lane_policy.allow_models:
        yield Bound(f"Lane {lane} does not list {id_}.", f"add {id_} to lane.{lane}.allow_models in the policy.")
    if id_ in case.ruled_out:
        yield Bound(f"Plug-in {case.ruled_out[id_]}", "change what that rule looks at.")
    yield from task_bounds(task, model)
    if emergency.is_closed(model, case):
        yield Bound(f"{id_} {emergency.MEANING}", emergency.REMEDY)


def task_bounds(task: TaskPending, model: Model) -> Iterator[Bound]:
    """Return the boundaries that the task itself names and that exclude the model, whatever the policy says."""
    if task.local_only and not model.local:
        yield Bound(f"The task is local_only, and {model.id} is hosted.", "send the task without local_only.")
    if task.allow_providers and model.provider not in task.allow_providers:
        yield Bound(
            f"The task does not allow {model.provider}.", f"add {model.provider} to the task's allow_providers."
        )
    if model.provider in task.deny_providers:
        yield Bound(f"The task denies {model.provider}.", f"take {model.provider} out of the task's deny_providers.")
    if task.max_tier is not None and model.tier > task.max_tier:
        yield Bound(
            f"{model.id} is of tier {model.tier}, and the task's max_tier is {task.max_tier}.",
            f"raise max_tier to {model.tier}.",
        )
