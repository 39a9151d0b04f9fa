"""The shape of tasks: everything that their verdicts depend on, apart from EV and priority."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.vocabulary import Complexity
from streams.core.index.fleet import Verdicts

if TYPE_CHECKING:
    from streams.core.index.groups import Group


@dataclass(slots=True, kw_only=True, eq=False)
class Shape:
    """The common properties of tasks that the gates do not distinguish."""

    #: The requirement as text.
    bars: str
    complexity: Complexity | None
    strategy: str
    #: Models to try first, by id: first `listed` models of the policy's list, then those of a plug-in.
    ranking: tuple[str, ...] = ()
    listed: int = 0
    #: Cells of emergency models that the task does not ask for.
    emergency_mask: int = 0
    #: Verdicts of each model of the fleet, by the gates that look at the task.
    verdicts: Verdicts
    #: The same where the bar of the class has given way to credit; None: it cannot, or no model would gain by it.
    verdicts_below: Verdicts | None = None
    #: Both premium models and cheaper ones can do the work, so that the premium floor may matter.
    has_floor: bool = False
    #: A rule raised: the static fallback decides.
    failed: bool = False
    #: (below the premium floor, lifted, level of the cost breaker) -> group
    groups: dict[tuple[bool, bool, int], Group] = field(default_factory=dict)
