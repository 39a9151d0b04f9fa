"""Extensions of an installation without a fork: a scorer, strategies and rules, as plug-ins (docs/extending.md).

A plug-in is called once for a task, when its record is read, outside the pure router and under a time limit. Its
answer is in the journal, so that deriving a decision again needs no plug-in. A plug-in that raises or hangs loses its
own answer and nothing else.

    here         the interfaces of plug-ins
    installed    the installed plug-ins, by entry point
    runner       one plug-in, the one thread that calls it, and its breaker
    advisor      the answers of all of them about a task, as one `Advice`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.events import TaskPending
from streams.core.policy.catalog import Model


class Scorer(Protocol):
    """Scores tasks without an EV; entry point group `slotwise.scorers`."""

    def __call__(self, task: TaskPending, /) -> float | None:
        """Return the expected value, in the unit of all others; None: unknown."""


class Strategy(Protocol):
    """Ranks models for a task; entry point group `slotwise.strategies`."""

    def __call__(self, task: TaskPending, models: Sequence[Model], /) -> Sequence[str]:
        """Return ids of models in the order in which to try them; the others come after, by the policy."""


class Rule(Protocol):
    """Keeps tasks from models; entry point group `slotwise.rules`."""

    def __call__(self, task: TaskPending, model: Model, /) -> str | None:
        """Return the sentence why this model must not do this task; None: no objection."""


__all__ = ["Model", "Rule", "Scorer", "Strategy", "TaskPending"]
