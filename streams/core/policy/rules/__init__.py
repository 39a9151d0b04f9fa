"""The gates: may this task use this model? One gate a file; `RULES` has them in the order of evaluation.

A rule is everything about its gate: its inputs, its thresholds (a section of the policy), its check, its reason
sentence, its remedy, and the headline of a task that waits because of it. All other code calls the rules or loops over
them: shapes and indexes of the router, `check`, `explain` and `explain --why-not`. The first rule that refuses is the
model's verdict, and the decision records it.
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

LooksAt = Literal["task", "marks", "fleet", "money"]


class Rule(Protocol):
    """One gate."""

    @property
    def gate(self) -> Gate:
        """Name of the gate: the verdict on a model that it refuses."""

    @property
    def headline(self) -> Headline:
        """Headline of a task that waits because of it."""

    @property
    def looks_at(self) -> LooksAt:
        """What its answer depends on: the task (evaluated once a shape), marks, what else is in reach, or money."""

    @property
    def task_fields(self) -> tuple[str, ...]:
        """Fields of `TaskPending` that its answer depends on, beside those by which all shapes differ.

        Those are the requirements, the class, the tokens where they may not fit, EV and priority.
        """

    @property
    def unable(self) -> bool:
        """Whether a model that it refuses cannot do the work at any time."""

    @property
    def means(self) -> str:
        """Meaning of its verdict, as the end of "opus ..."."""

    def refuses(self, case: Case, at: Candidate, /) -> bool:
        """Whether it refuses the task this model under this account."""

    def reason(self, case: Case, at: Candidate, /) -> str:
        """The reason: a sentence with the values that were compared. Only called where it refuses."""

    def remedy(self, case: Case, refused: Sequence[Candidate], /) -> str:
        """The smallest change that would open it for one of these candidates, all refused and of one model."""

    def waits(self, case: Case, refused: Sequence[Candidate], /) -> str:
        """The reason of a task that waits because it refuses these, the best candidates."""


class MarksRule(Rule, Protocol):
    """A gate that depends on marks only: it has an answer without a task."""

    def refuses(self, moment: Moment, at: Candidate, /) -> bool:
        """Whether it refuses every task this model under this account now."""

    def reason(self, moment: Moment, at: Candidate, /) -> str:
        """The reason."""

    def ends_ms(self, moment: Moment, at: Candidate, /) -> Millis | None:
        """When it opens again by itself; None: unknown. Only called where it refuses."""


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
#: Verdicts of models that cannot do the work at any time.
UNABLE: Final = frozenset(rule.gate for rule in RULES if rule.unable)
_ORDER: Final[Mapping[str, int]] = {rule.gate: i for i, rule in enumerate(RULES)}


def refusing_task(case: Case, at: Candidate) -> Gate | None:
    """Return the first gate that refuses the model, of those that look at the task."""
    for rule in TASK_RULES:
        if rule.refuses(case, at):
            return rule.gate
    return None


def refusing_now(moment: Moment, at: Candidate) -> MarksRule | None:
    """Return the first gate that refuses the model to every task, because of marks."""
    return next((rule for rule in MARKS_RULES if rule.refuses(moment, at)), None)


def comes_back(moment: Moment, at: Candidate) -> bool:
    """Whether no mark refuses the model, or only marks that end at a known time."""
    return all(rule.ends_ms(moment, at) is not None for rule in MARKS_RULES if rule.refuses(moment, at))


def first(gate: Gate | None, other: Gate | None) -> Gate | None:
    """Return the verdict where two gates were evaluated separately."""
    if gate is None or other is None:
        return other if gate is None else gate
    return gate if _ORDER[gate] < _ORDER[other] else other


def furthest(gates: Iterable[Gate | None]) -> Gate | None:
    """Return the refusal of the candidate that passed the most gates."""
    return max((gate for gate in gates if gate is not None), key=_ORDER.__getitem__, default=None)
