"""What the gates look at: a model's slots of one account, a moment of the fleet, and one task at that moment.

The router fills these values where it decides, `views/why_not.py` from the record of a decision; so both ask the same
rules the same question. Rules of one kind look at their part only, and whoever asks only those may leave out the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from schemas.decision import Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import Complexity, MicroUsd, Millis
from streams.core.policy.catalog import Model
from streams.core.state.marks import Account, Marks

if TYPE_CHECKING:
    from streams.core.policy.rulebook import Rulebook


class Candidate(NamedTuple):
    """What a gate lets through or refuses: a model under one account; None: slots that name no account."""

    model: Model
    account: Account = None


class Moment(Struct, frozen=True, kw_only=True):
    """The fleet at one moment: what the rules that look at marks need, whatever the task."""

    rulebook: Rulebook
    marks: Marks = field(default_factory=Marks)
    now_ms: Millis = Millis(0)


class Case(Moment, frozen=True, kw_only=True):
    """One task at one moment."""

    task: TaskPending
    #: The task's class, given or by the table.
    complexity: Complexity | None
    #: The lowest tier after attempts that failed and were escalated.
    escalated_tier: int = 1
    #: Models that plugged-in rules refuse, with their sentences.
    ruled_out: Mapping[str, str] = {}
    #: Models of the policy's list for this kind of task, where its strategy asks that list.
    listed: tuple[str, ...] = ()
    ev: float | None = None
    percentiles: Percentiles | None = None
    #: The premium reserve is closed to a task of this EV and priority.
    is_low: bool = False
    #: Models of the pool's fleet that can do the work at all: no gate with `unable` refuses them.
    able: tuple[Model, ...] = ()
    #: Models that every gate let through.
    admissible: tuple[Model, ...] = ()
    #: Credit of its tenant; None: it pays by no budget.
    available_uusd: int | None = None

    @property
    def max_tokens(self) -> int:
        """Most output tokens the task may use, before the model's own limit."""
        return self.rulebook.max_tokens(self.complexity, self.task.output_tokens)

    def cost_uusd(self, model: Model) -> MicroUsd | None:
        """What the task would probably cost on this model; None where a price is unknown."""
        return self.rulebook.cost_uusd(self.task, self.complexity, model)


def each_once(sentences: Iterable[str]) -> str:
    """The sentences as one text; what is said of several candidates in the same words is said once."""
    return " ".join(dict.fromkeys(sentences))
