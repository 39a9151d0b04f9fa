"""Input of the gates: a model's slots of one account, the fleet at one time, and one task at that time.

The router fills these values when it decides, `views/recorded.py` from the record of a decision, so that both ask the
same rules the same question. Rules of one kind read their part only; a caller that asks only those may omit the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from schemas.decision import Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import Complexity, MicroUsd, Millis
from streams.core.policy.breaker import Reading
from streams.core.policy.catalog import Model
from streams.core.state.marks import Account, Marks

if TYPE_CHECKING:
    from streams.core.policy.rulebook import Rulebook


class Candidate(NamedTuple):
    """What a gate admits or refuses: a model under one account; None: slots without an account."""

    model: Model
    account: Account = None


class Moment(Struct, frozen=True, kw_only=True):
    """The fleet at one time: input of the rules that look at marks, for every task."""

    rulebook: Rulebook
    marks: Marks = field(default_factory=Marks)
    now_ms: Millis = Millis(0)


class Case(Moment, frozen=True, kw_only=True):
    """One task at one time."""

    task: TaskPending
    #: The task's class, given or by the table.
    complexity: Complexity | None
    #: Lowest tier after escalations.
    escalated_tier: int = 1
    #: The bar of its class has given way: the tenant's credit covers no model at it.
    class_gave_way: bool = False
    #: Models that rules of plug-ins refuse, with their sentences.
    ruled_out: Mapping[str, str] = {}
    #: Models of the policy's list for this type of task, where its strategy is `preference`.
    listed: tuple[str, ...] = ()
    ev: float | None = None
    percentiles: Percentiles | None = None
    #: EV and priority are below the premium floor, and the task has not reached patience.
    is_low: bool = False
    #: Models of the pool's fleet that can do the work (no gate with `unable` refuses them) and are in reach: they have
    #: a slot in service that no mark refuses without a known end.
    in_reach: tuple[Model, ...] = ()
    #: Models with a slot in service that every gate admits.
    admissible: tuple[Model, ...] = ()
    #: Available credit of its tenant; None: the tenant has no budget.
    available_uusd: int | None = None
    #: The cap by which the cost breaker bars it from models; None: from none.
    trip: Reading | None = None

    def answer_tokens(self, model: Model) -> int:
        """Most output tokens that the task may use on this model."""
        return self.rulebook.answer_tokens(self.task, self.complexity, model)

    def cost_uusd(self, model: Model) -> MicroUsd | None:
        """Estimated cost of the task on this model; None where a price is unknown."""
        return self.rulebook.cost_uusd(self.task, self.complexity, model, self.now_ms)


def each_once(sentences: Iterable[str]) -> str:
    """Join sentences into one text; equal sentences appear once."""
    return " ".join(dict.fromkeys(sentences))
