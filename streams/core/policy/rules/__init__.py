"""The gates: may this task use this model? One gate a file, and `RULES` in the order in which they are asked.

A rule is everything about its gate: what it looks at, its thresholds (a section of the policy), its check, its reason
sentence, what would open it, and the headline of a task that waits because of it. Everything else asks the rules or
loops over them: shapes and indexes of the router, `check`, `explain` and `explain --why-not`. The first rule that
refuses is the model's verdict and stays in the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

from schemas.vocabulary import Gate, Headline, Millis
from streams.core.policy.case import Candidate, Case, Moment
from streams.core.policy.rules.boundary import Boundary
from streams.core.policy.rules.capability import Capability
from streams.core.policy.rules.context import Context
from streams.core.policy.rules.credit import Credit
from streams.core.policy.rules.drained import Drained
from streams.core.policy.rules.exhausted import Exhausted
from streams.core.policy.rules.floor import Floor
from streams.core.policy.rules.premium import Premium
from streams.core.policy.rules.quota import Quota

LooksAt = Literal["task", "marks", "money"]


class Rule(Protocol):
    """One gate."""

    @property
    def gate(self) -> Gate:
        """Its name: the verdict on a model that it refuses."""

    @property
    def headline(self) -> Headline:
        """Reason code of a task that waits because of it."""

    @property
    def looks_at(self) -> LooksAt:
        """What its answer depends on: the task (looked at once a kind of task), marks of the fleet, or money."""

    @property
    def unable(self) -> bool:
        """Whether a model that it refuses cannot do the work at all, whatever the moment."""

    @property
    def means(self) -> str:
        """What its verdict says of a model, as the end of "opus ..."."""

    def refuses(self, case: Case, at: Candidate, /) -> bool:
        """Whether it keeps the task from this model under this account."""

    def reason(self, case: Case, at: Candidate, /) -> str:
        """Why it does: a sentence with what was looked at. Only asked where it refuses."""

    def remedy(self, case: Case, refused: Sequence[Candidate], /) -> str:
        """The smallest change that would open it to one of these, all of one model and refused."""

    def waits(self, case: Case, refused: Sequence[Candidate], /) -> str:
        """Why a task waits whose best candidates, these, are refused by it."""


class MarksRule(Rule, Protocol):
    """A gate that looks at marks only: it has an answer without a task."""

    def refuses(self, moment: Moment, at: Candidate, /) -> bool:
        """Whether it keeps every task from this model under this account now."""

    def reason(self, moment: Moment, at: Candidate, /) -> str:
        """Why it does."""

    def ends_ms(self, moment: Moment, at: Candidate, /) -> Millis | None:
        """When it opens again by itself, as far as is known. Only asked where it refuses."""


MARKS_RULES: Final[tuple[MarksRule, ...]] = (Exhausted(), Drained(), Quota())
#: All of them, in the order of `vocabulary.GATES`.
RULES: Final[tuple[Rule, ...]] = (
    Capability(),
    Context(),
    Boundary(),
    Floor(),
    *MARKS_RULES,
    Premium(),
    Credit(),
)
TASK_RULES: Final = tuple(rule for rule in RULES if rule.looks_at == "task")

BY_GATE: Final[Mapping[str, Rule]] = {rule.gate: rule for rule in RULES}
BY_HEADLINE: Final[Mapping[str, Rule]] = {rule.headline: rule for rule in RULES}
#: Verdicts of models that cannot do the work, whatever the moment.
UNABLE: Final = frozenset(rule.gate for rule in RULES if rule.unable)
_ORDER: Final[Mapping[str, int]] = {rule.gate: i for i, rule in enumerate(RULES)}


def refusing_task(case: Case, at: Candidate) -> Gate | None:
    """The first gate that refuses the model, of those that look at the task."""
    return next((rule.gate for rule in TASK_RULES if rule.refuses(case, at)), None)


def refusing_now(moment: Moment, at: Candidate) -> MarksRule | None:
    """The first gate that refuses the model to every task, by what marks say of it."""
    return next((rule for rule in MARKS_RULES if rule.refuses(moment, at)), None)


def first(gate: Gate | None, other: Gate | None) -> Gate | None:
    """The verdict, where two gates were asked apart from each other."""
    if gate is None or other is None:
        return other if gate is None else gate
    return gate if _ORDER[gate] < _ORDER[other] else other


def furthest(gates: Iterable[Gate | None]) -> Gate | None:
    """The refusal of the candidate that got furthest through the gates."""
    return max((gate for gate in gates if gate is not None), key=_ORDER.__getitem__, default=None)
