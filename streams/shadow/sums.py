"""What was compared so far, in numbers: differences by kind; routed work, money and waits of both sides."""

from __future__ import annotations

from msgspec import Struct, field

from schemas.decision import Decision
from schemas.vocabulary import MicroUsd, Millis


class Side(Struct):
    """The routed decisions of one side."""

    routed: int = 0
    #: By model and by tier.
    models: dict[str, int] = field(default_factory=dict)
    tiers: dict[int, int] = field(default_factory=dict)
    #: Estimates, and how many decisions had none.
    cost_uusd: MicroUsd = MicroUsd(0)
    unpriced: int = 0
    #: Of the routed ones, those that waited, and how long.
    waited: int = 0
    wait_ms: int = 0
    wait_ms_max: int = 0

    def add(self, decision: Decision) -> None:
        """Count a routed decision."""
        self.routed += 1
        model, tier = decision.chosen_model or "", decision.tier or 0
        self.models[model] = self.models.get(model, 0) + 1
        self.tiers[tier] = self.tiers.get(tier, 0) + 1
        if decision.estimated_cost_uusd is None:
            self.unpriced += 1
        else:
            self.cost_uusd = MicroUsd(self.cost_uusd + decision.estimated_cost_uusd)
        wait_ms = max(0, decision.decided_at_ms - decision.waiting_since_ms)
        self.waited += wait_ms > 0
        self.wait_ms += wait_ms
        self.wait_ms_max = max(self.wait_ms_max, wait_ms)

    def take(self, other: Side) -> None:
        """Add the numbers of another partition."""
        self.routed += other.routed
        for model, count in other.models.items():
            self.models[model] = self.models.get(model, 0) + count
        for tier, count in other.tiers.items():
            self.tiers[tier] = self.tiers.get(tier, 0) + count
        self.cost_uusd = MicroUsd(self.cost_uusd + other.cost_uusd)
        self.unpriced += other.unpriced
        self.waited += other.waited
        self.wait_ms += other.wait_ms
        self.wait_ms_max = max(self.wait_ms_max, other.wait_ms_max)


class Sums(Struct):
    """Of one partition, from where its run began."""

    steps: int = 0
    #: Live decisions that were compared.
    decisions: int = 0
    #: By kind.
    differences: dict[str, int] = field(default_factory=dict)
    live: Side = field(default_factory=Side)
    #: Each attempt of a task counts once here: when the shadow would first have routed it.
    shadow: Side = field(default_factory=Side)
    #: Times of the first and of the last step.
    first_ms: Millis | None = None
    last_ms: Millis | None = None

    def count(self, kind: str) -> None:
        """Count a difference."""
        self.differences[kind] = self.differences.get(kind, 0) + 1

    def take(self, other: Sums) -> None:
        """Add the numbers of another partition."""
        self.steps += other.steps
        self.decisions += other.decisions
        for kind, count in other.differences.items():
            self.differences[kind] = self.differences.get(kind, 0) + count
        self.live.take(other.live)
        self.shadow.take(other.shadow)
        firsts = [at_ms for at_ms in (self.first_ms, other.first_ms) if at_ms is not None]
        lasts = [at_ms for at_ms in (self.last_ms, other.last_ms) if at_ms is not None]
        self.first_ms, self.last_ms = min(firsts, default=None), max(lasts, default=None)
