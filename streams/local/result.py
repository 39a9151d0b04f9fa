"""The result of a run as one value: inputs, decisions, rows and records, and whether they agree.

Pure: made from the journal's stats and one count of topics and audit. `slotwise up --until-idle --json` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from schemas.vocabulary import INPUT_TOPICS, OUTPUT_TOPICS
from streams.audit import agreement
from streams.audit.agreement import DEAD_LETTERS
from streams.local.remains import Remains, audit_lacks, journal_counts
from streams.local.watch import DEAD_LETTER_SUFFIX, Counts
from streams.sample.play import SampleProgress
from streams.views.journal_stats import JournalStats


class WaitTimes(Struct, frozen=True, kw_only=True):
    """How long routed tasks had waited, in seconds."""

    p50_s: float
    p95_s: float
    max_s: float


class Rates(Struct, frozen=True, kw_only=True):
    """Per second of the whole run, start of the parts not counted."""

    inputs_per_s: float
    decisions_per_s: float


class Money(Struct, frozen=True, kw_only=True):
    """US dollars: what the routed work was estimated at, what its outcomes reported, and what routing saved."""

    estimated_usd: float
    reported_usd: float
    #: Deprecated: the same as `reported_usd`; gone in 0.2.0.
    told_usd: float
    saved_vs_premium_usd: float
    saved_vs_next_free_usd: float


class TaskTotals(Struct, frozen=True, kw_only=True):
    """Tasks of the sample (none: nothing was fed) and those of the journal that are not finished."""

    sample: int
    sent: int
    waiting: int
    running: int
    delayed: int
    #: Deprecated: the same as `delayed`; gone in 0.2.0.
    held: int


class Result(Struct, frozen=True, kw_only=True):
    """All numbers of a run, for programs."""

    agree: bool
    #: One sentence for each pair of numbers that should be equal and differs.
    disagreements: tuple[str, ...]
    seconds: float
    inputs: dict[str, int]
    inputs_handled: dict[str, int]
    decisions: dict[str, int]
    decisions_total: int
    steps: int
    steps_fenced: int
    audit_rows: int
    audit_steps: int
    published: dict[str, int]
    #: Dead letters by the journal, and those in the dead-letter topics.
    dead_letters: dict[str, int]
    #: Ignored inputs: duplicates, stale frees.
    counts: dict[str, int]
    work: dict[str, int]
    waits: WaitTimes | None
    rates: Rates
    tiers: dict[str, int]
    models: dict[str, int]
    reasons: dict[str, int]
    money: Money
    ev_p50: float | None
    ev_p90: float | None
    tasks: TaskTotals
    #: Parts that died and were started again.
    restarts: dict[str, int]
    #: What is undone when everything has ended.
    remains: Remains = Remains()


def summarise(
    stats: JournalStats,
    counts: Counts,
    *,
    progress: SampleProgress | None,
    seconds: float,
    restarts: dict[str, int],
    remains: Remains | None = None,
) -> Result:
    """Put the numbers together and compare them."""
    disagreements = tuple(compare(stats, counts, progress))
    status = stats.status
    return Result(
        agree=not disagreements,
        disagreements=disagreements,
        seconds=round(seconds, 3),
        inputs={topic: counts.records[topic] for topic in INPUT_TOPICS},
        inputs_handled={topic: stats.inputs[topic] for topic in INPUT_TOPICS},
        decisions={str(outcome): count for outcome, count in stats.decisions.items()},
        decisions_total=stats.decisions_total,
        steps=stats.steps,
        steps_fenced=stats.steps_fenced,
        audit_rows=counts.audit_decisions,
        audit_steps=counts.audit_steps,
        published={topic: counts.records[topic] for topic in OUTPUT_TOPICS},
        dead_letters={"journal": stats.dead_letters, "topics": _dead_letters(counts)},
        counts=dict(stats.counts),
        work=dict(stats.work),
        waits=_waits(stats),
        rates=Rates(
            inputs_per_s=round(stats.inputs.total() / seconds, 1) if seconds else 0.0,
            decisions_per_s=round(stats.decisions_total / seconds, 1) if seconds else 0.0,
        ),
        tiers={str(tier): count for tier, count in sorted(stats.tiers.items())},
        models=dict(stats.models.most_common()),
        reasons=dict(stats.reasons.most_common()),
        money=Money(
            estimated_usd=stats.estimated_uusd / 1e6,
            reported_usd=round(stats.spent_usd, 6),
            told_usd=round(stats.spent_usd, 6),
            saved_vs_premium_usd=stats.saved_vs_premium_uusd / 1e6,
            saved_vs_next_free_usd=stats.saved_vs_next_free_uusd / 1e6,
        ),
        ev_p50=stats.p50,
        ev_p90=stats.p90,
        tasks=TaskTotals(
            sample=progress.tasks if progress else 0,
            sent=progress.sent if progress else 0,
            waiting=status["waiting"],
            running=status["running"],
            delayed=status["delayed"],
            held=status["delayed"],
        ),
        restarts=restarts,
        remains=remains or Remains(),
    )


def compare(stats: JournalStats, counts: Counts, progress: SampleProgress | None) -> Iterator[str]:
    """Return a sentence for each pair of numbers that differs; while work goes on, some always do."""
    yield from audit_lacks(stats, counts)
    if counts.inputs_unhandled:
        yield f"{counts.inputs_unhandled} inputs stand in the topics and in no step of the journal."
    yield from agreement.published(journal_counts(stats), {**counts.records, DEAD_LETTERS: _dead_letters(counts)})
    if progress is not None and not progress.all_sent:
        yield f"{progress.tasks - progress.sent} tasks of the sample were not sent yet."
    elif progress is not None and stats.live_tasks:
        yield f"{stats.live_tasks} tasks are not finished."


def _dead_letters(counts: Counts) -> int:
    return sum(count for topic, count in counts.records.items() if topic.endswith(DEAD_LETTER_SUFFIX))


def _waits(stats: JournalStats) -> WaitTimes | None:
    p50, p95, longest = (stats.wait_ms(percent) for percent in (50, 95, 100))
    if p50 is None or p95 is None or longest is None:
        return None
    return WaitTimes(p50_s=p50 / 1000, p95_s=p95 / 1000, max_s=longest / 1000)
