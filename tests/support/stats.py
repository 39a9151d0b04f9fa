"""The numbers of `v_stats`, computed once more in plain Python from a journal's steps, without sums by the hour."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schemas.decision import Decision, Step, WorkDone

HOUR_MS = 3_600_000

#: The key of a decision, by what the numbers are grouped by.
KEYS: dict[str, Callable[[Decision], tuple[str, ...]]] = {
    "all": lambda _: (),
    "role": lambda one: (one.agent_role or "(none)",),
    "lane": lambda one: (one.lane or "(none)",),
    "tenant": lambda one: (one.tenant_id or "(none)",),
    "layer": lambda one: (one.layer or "(none)",),
    "provider": lambda one: (one.chosen_provider or "(none)",),
    "model": lambda one: (one.chosen_model or "(none)",),
    "tier": lambda one: (str(one.tier or "(none)"),),
    "model, layer": lambda one: (one.chosen_model or "(none)", one.layer or "(none)"),
    "role, complexity, model": lambda one: (
        one.agent_role or "(none)",
        one.complexity or "(none)",
        one.chosen_model or "(none)",
    ),
}
#: Those to which only routed decisions belong.
OF_MODELS = ("provider", "model", "tier", "model, layer", "role, complexity, model")
#: Those whose waits have percentiles.
WITH_WAITS = ("all", "role", "lane", "tenant", "layer", "provider", "model", "tier")


class Numbers(Struct, kw_only=True):
    """What is counted of one key; money in micro-dollars."""

    decisions: int = 0
    routed: int = 0
    waiting: int = 0
    ended: int = 0
    fallbacks: int = 0
    router_errors: int = 0
    waits_ms: list[int] = field(default_factory=list)
    estimated_uusd: int = 0
    saved_vs_premium_uusd: int = 0
    saved_vs_next_free_uusd: int = 0
    work: list[WorkDone] = field(default_factory=list)

    def row(self, by: str) -> dict[str, Any]:
        """Return the columns of `v_stats`; percentiles of waits are exact here, and a step above that there."""
        qualities = [one.outcome.quality for one in self.work if one.outcome.quality is not None]
        metered = [
            (one.cost_uusd, one.outcome.input_tokens + one.outcome.output_tokens)
            for one in self.work
            if one.cost_uusd is not None
            and one.outcome.input_tokens is not None
            and one.outcome.output_tokens is not None
        ]
        tokens = sum(count for _, count in metered)
        spent = sum(one.cost_uusd or 0 for one in self.work)
        failed = sum(one.outcome.status != "success" for one in self.work)
        waits = sorted(self.waits_ms)
        return {
            "decisions": self.decisions,
            "routed": self.routed,
            "waiting": self.waiting,
            "ended": self.ended,
            "fallbacks": self.fallbacks,
            "router_errors": self.router_errors,
            "fallback_share": _share(self.fallbacks, self.routed),
            "router_error_share": _share(self.router_errors, self.routed),
            "wait_p50_s": _nearest(waits, 0.50) if by in WITH_WAITS else None,
            "wait_p95_s": _nearest(waits, 0.95) if by in WITH_WAITS else None,
            "wait_max_s": waits[-1] / 1000 if waits else None,
            "finished": len(self.work),
            "failed": failed,
            "failed_share": _share(failed, len(self.work)),
            "input_tokens": sum(one.outcome.input_tokens or 0 for one in self.work),
            "output_tokens": sum(one.outcome.output_tokens or 0 for one in self.work),
            "estimated_usd": self.estimated_uusd / 1e6,
            "spent_usd": spent / 1e6,
            "usd_per_task": spent / 1e6 / len(self.work) if self.work else None,
            "usd_per_million_tokens": sum(cost for cost, _ in metered) / tokens if tokens else None,
            "saved_vs_premium_usd": self.saved_vs_premium_uusd / 1e6,
            "saved_vs_next_free_usd": self.saved_vs_next_free_uusd / 1e6,
            "quality_n": len(qualities),
            "quality_mean": statistics.fmean(qualities) if qualities else None,
            "quality_sd": statistics.stdev(qualities) if len(qualities) > 1 else None,
        }


def numbers(steps: Iterable[Step], *, since_ms: int = 0) -> dict[tuple[str, tuple[str, ...]], Numbers]:
    """Return what is counted since the hour of a time, by what it is grouped by and the key.

    A step that comes again is ignored. Work counts in the hour of its decision.
    """
    seen: dict[tuple[int, int], Step] = {}
    for step in steps:
        seen.setdefault((step.partition, step.seq), step)
    decisions = {one.decision_id: one for step in seen.values() for one in step.decisions}
    found: defaultdict[tuple[str, tuple[str, ...]], Numbers] = defaultdict(Numbers)
    first_ms = since_ms // HOUR_MS * HOUR_MS
    for step in seen.values():
        for one in step.decisions:
            if one.decided_at_ms >= first_ms:
                for by, key in KEYS.items():
                    if one.outcome == "routed" or by not in OF_MODELS:
                        _add(found[by, key(one)], one)
        for done in step.work:
            decided = decisions[done.decision_id]
            if decided.decided_at_ms >= first_ms:
                for by, key in KEYS.items():
                    found[by, key(decided)].work.append(done)
    return dict(found)


def _add(to: Numbers, one: Decision) -> None:
    to.decisions += 1
    to.saved_vs_premium_uusd += one.saved_vs_premium_uusd or 0
    to.saved_vs_next_free_uusd += one.saved_vs_next_free_uusd or 0
    match one.outcome:
        case "routed":
            to.routed += 1
            to.fallbacks += one.fallback
            to.router_errors += one.reason_code == "router_error"
            to.waits_ms.append(max(0, one.decided_at_ms - one.waiting_since_ms))
            to.estimated_uusd += one.estimated_cost_uusd or 0
        case "waiting":
            to.waiting += 1
        case _:
            to.ended += 1


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _nearest(ordered: list[int], share: float) -> float | None:
    """Return the nearest-rank quantile, in seconds."""
    if not ordered:
        return None
    rank = math.ceil(Fraction(str(share)) * len(ordered))
    return ordered[rank - 1] / 1000
