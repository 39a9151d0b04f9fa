"""The complexity class of a task without one: points for its fields, a class by their sum, and classes it has at least.

The table is data of the policy file; no model is called. A task with neither class nor role has no class.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Final, get_args

from msgspec import Meta, Struct, field

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Share, Word

#: Negative where it makes a task easier.
Points = Annotated[int, Meta(ge=-1_000, le=1_000)]

Words = Annotated[int, Meta(ge=0, le=1_000_000_000)]

#: Easiest first.
CLASSES: Final[tuple[Complexity, ...]] = get_args(Complexity)


class LengthPoints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points for an answer of more than so many words."""

    above_words: Words
    points: Points


class RichnessPoints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points for a context that is at least this rich."""

    from_share: Share
    points: Points


class LeastClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The class that a task has at least, whatever its points, where all that stands in the row is so."""

    class_: Complexity = field(name="class")
    #: Its answer is to have more words than that.
    above_words: Words | None = None
    #: It needs reasoning.
    requires_reasoning: bool = False

    def concerns(self, task: TaskPending) -> bool:
        """Whether all that stands in the row is so."""
        if self.above_words is not None and (task.output_length_target or 0) <= self.above_words:
            return False
        return task.requires_reasoning or not self.requires_reasoning


class ClassPoints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sum from which a task is of a class; below all of them it is trivial."""

    simple: Points = 2
    standard: Points = 4
    complex: Points = 7
    expert: Points = 10


class ComplexityPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table by which a task with a role gets its class."""

    #: By `agent_role`, compared exactly.
    by_role: dict[Word, Points] = {}
    #: Points of a role that is not listed.
    other_role: Points = 4
    requires_reasoning: Points = 2
    #: By `output_length_target`, in words, ascending: the last row that it is above counts.
    by_output_length: tuple[LengthPoints, ...] = ()
    #: By `context_richness`, ascending: the last row that it reaches counts.
    by_context_richness: tuple[RichnessPoints, ...] = ()
    from_points: ClassPoints = ClassPoints()
    #: Every row that concerns the task counts.
    at_least: tuple[LeastClass, ...] = ()

    def classify(self, task: TaskPending) -> Complexity | None:
        """Return the task's class: its own, else by its points where it has a role, else none.

        A revision is one class harder than the table says; a class that the producer named already includes that.
        """
        if task.complexity is not None:
            return task.complexity
        if task.agent_role is None:
            return None
        place = bisect_right(self._thresholds(), self.points(task, task.agent_role))
        place = max([place, *(CLASSES.index(row.class_) for row in self.at_least if row.concerns(task))])
        if task.has_revision_history:
            place = min(place + 1, len(CLASSES) - 1)
        return CLASSES[place]

    def points(self, task: TaskPending, role: str) -> int:
        """Return the sum of points for this role and the task's fields."""
        points = self.by_role.get(role, self.other_role)
        if task.requires_reasoning:
            points += self.requires_reasoning
        if (words := task.output_length_target) is not None:
            points += next((row.points for row in reversed(self.by_output_length) if row.above_words < words), 0)
        if (share := task.context_richness) is not None:
            points += next((row.points for row in reversed(self.by_context_richness) if row.from_share <= share), 0)
        return points

    def mistakes(self) -> Iterator[str]:
        """Return rows that are out of order: key and sentence."""
        columns: dict[str, list[float]] = {
            "by_output_length: above_words": [row.above_words for row in self.by_output_length],
            "by_context_richness: from_share": [row.from_share for row in self.by_context_richness],
            "from_points: simple, standard, complex, expert": list(self._thresholds()),
        }
        for key, column in columns.items():
            if any(low >= high for low, high in pairwise(column)):
                yield f"{key} must ascend, and here they are {', '.join(map(str, column))}."

    def _thresholds(self) -> tuple[int, int, int, int]:
        least = self.from_points
        return least.simple, least.standard, least.complex, least.expert
