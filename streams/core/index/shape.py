"""What is alike about tasks of one kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.vocabulary import Complexity
from streams.core.index.fleet import Verdicts

if TYPE_CHECKING:
    from streams.core.index.groups import Group


@dataclass(slots=True, kw_only=True, eq=False)
class Shape:
    """Everything about a task that its verdicts depend on, apart from its EV and priority."""

    #: What it requires, in words.
    bars: str
    complexity: Complexity | None
    strategy: str
    #: Models to try first, by id; so many of them are of the policy's list, the others of a plug-in's.
    ranking: tuple[str, ...] = ()
    listed: int = 0
    #: Cells of emergency models that the task does not ask for: closed in ordinary times.
    emergency_mask: int = 0
    #: Verdicts of each model of the fleet where the task is above the premium floor, and where it is below.
    verdicts: Verdicts
    verdicts_low: Verdicts
    #: Looking at it raised: the static fallback decides.
    failed: bool = False
    #: (below the premium floor, lifted) -> group
    groups: dict[tuple[bool, bool], Group] = field(default_factory=dict)
