"""The EV of a task without one: importance x tractability x impact / estimated cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from schemas.decision import Advice, EvSample, Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import Millis
from streams.core.policy.rulebook import Rulebook
from streams.core.state.pool import Pool

_CACHE_MAX: Final = 100_000
#: The shares whose quantiles are stored with P50 and P90.
QUANTILE_GRID: Final = [i / 100 for i in range(101)]


class EvScorer(Protocol):
    """Computes an expected value; pure. None: unknown."""

    def __call__(self, task: TaskPending, /) -> float | None:
        """Return the EV of the task."""


def ingredients(task: TaskPending) -> float | None:
    """The shipped scorer. A missing ingredient or a cost of 0 leaves the EV unknown; a negative EV is allowed."""
    parts = (task.importance, task.tractability, task.impact)
    if task.estimated_cost is None or task.estimated_cost == 0 or None in parts:
        return None
    importance, tractability, impact = (part or 0.0 for part in parts)
    return importance * tractability * impact / task.estimated_cost


def _known(ev: float | None) -> float | None:
    """Return None for an EV that overflowed and for NaN."""
    return ev if ev is not None and math.isfinite(ev) else None


class CachedScorer:
    """A scorer that is called once per task within `keep_ms`; the task's own EV needs no scorer."""

    def __init__(self, scorer: EvScorer, keep_ms: int) -> None:
        self._scorer = scorer
        #: Milliseconds of the router's clock.
        self.keep_ms = keep_ms
        self._known_scores: OrderedDict[tuple[str, str], tuple[Millis, TaskPending, float | None]] = OrderedDict()

    def ev(self, task: TaskPending, now_ms: Millis, advice: Advice | None = None) -> float | None:
        """Return the task's EV, given, advised or computed; None: unknown."""
        if task.ev is not None:
            return task.ev
        if advice is not None and advice.ev is not None:
            return _known(advice.ev)
        key = (task.pool, task.task_id)
        # A payload is large, and is not remembered beyond its task.
        bare = task if task.payload is None else replace(task, payload=None)
        known = self._known_scores.get(key)
        if known is not None and now_ms - known[0] < self.keep_ms and known[1] == bare:
            return known[2]
        try:
            ev = _known(self._scorer(task))
        except Exception:  # noqa: BLE001 -- whatever a plug-in raises, the task is routed as one of unknown EV
            ev = None
        self._known_scores[key] = (now_ms, bare, ev)
        self._known_scores.move_to_end(key)
        while len(self._known_scores) > _CACHE_MAX:
            self._known_scores.popitem(last=False)
        return ev


def percentile_of(ev: float | None, percentiles: Percentiles | None) -> float | None:
    """Return the share of the window's samples below `ev`, 0..1, from the hundred quantiles stored with P50 and P90."""
    if ev is None or percentiles is None or not percentiles.quantiles:
        return None
    quantiles = percentiles.quantiles
    i = bisect_right(quantiles, ev)
    if i == 0:
        return 0.0
    if i == len(quantiles):
        return 1.0
    low, high = quantiles[i - 1], quantiles[i]
    return round((i - 1 + (ev - low) / (high - low)) / 100, 4)


def due_percentiles(pool: Pool, fresh: Sequence[EvSample], now_ms: Millis, rulebook: Rulebook) -> Percentiles | None:
    """The percentiles to decide by: the pool's own, or new ones, with the `fresh` samples, when they are due.

    They are due after the policy's time, and as soon as there are twice as many samples: those of a few must not rule
    over many. Without percentiles each new sample is a reason to compute them: "none yet" is not kept.
    """
    known = pool.percentiles
    if known is None or known.p50 is None:
        if not fresh:
            return known
    elif now_ms - known.at_ms < rulebook.recompute_ms and pool.evs.count(now_ms) + len(fresh) < 2 * known.samples:
        return known
    policy = rulebook.policy
    digest = pool.evs.merged(now_ms, ((sample.at_ms, sample.ev) for sample in fresh))
    samples = digest.n_values
    if samples < policy.ev.samples_min:
        none = Percentiles(pool=pool.name, at_ms=now_ms, samples=samples)
        return known if known is None or known.p50 is None else none
    return Percentiles(
        pool=pool.name,
        at_ms=now_ms,
        samples=samples,
        p50=digest.quantile(policy.premium.ev_percentile),
        p90=digest.quantile(policy.lift.ev_percentile),
        quantiles=tuple(digest.quantile_vec(QUANTILE_GRID)),
    )
