"""The result of a run as one value: what came in, what was decided, what stands where, and whether it all agrees.

Pure: made from the journal's tally and one look at topics and audit. `slotwise up --until-idle --json` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from schemas.vocabulary import INPUT_TOPICS, TASK_AWAIT_SLOT, TASK_ROUTED
from streams.local.watch import DEAD_LETTER_SUFFIX, Sight
from streams.sample.play import Progress
from streams.views.journal_stats import Tally


class Waits(Struct, frozen=True, kw_only=True):
    """How long routed tasks had waited, in seconds."""

    p50_s: float
    p95_s: float
    max_s: float


class Rates(Struct, frozen=True, kw_only=True):
    """Per second of the whole run, start of the parts not counted."""

    inputs_per_s: float
    decisions_per_s: float


class Money(Struct, frozen=True, kw_only=True):
    """US dollars: what the routed work was estimated at, what its outcomes told, and what routing saved."""

    estimated_usd: float
    told_usd: float
    saved_vs_premium_usd: float
    saved_vs_next_free_usd: float


class Tasks(Struct, frozen=True, kw_only=True):
    """Tasks of the sample (none: nothing was fed) and those of the journal that are not finished."""

    sample: int
    sent: int
    waiting: int
    running: int
    held: int


class Result(Struct, frozen=True, kw_only=True):
    """Everything a program may want to know of a run."""

    agree: bool
    #: One sentence for each pair of numbers that should be equal and is not.
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
    #: What the journal refused or gave up, and what the dead-letter topics hold.
    dead_letters: dict[str, int]
    #: What was ignored on purpose: duplicates, stale frees.
    counts: dict[str, int]
    work: dict[str, int]
    waits: Waits | None
    rates: Rates
    tiers: dict[str, int]
    models: dict[str, int]
    reasons: dict[str, int]
    money: Money
    ev_p50: float | None
    ev_p90: float | None
    tasks: Tasks
    #: Parts that died and were started again.
    restarts: dict[str, int]


def summarise(
    tally: Tally, sight: Sight, *, progress: Progress | None, seconds: float, restarts: dict[str, int]
) -> Result:
    """Put the numbers together and compare them."""
    disagreements = tuple(compare(tally, sight, progress))
    standing = tally.standing
    return Result(
        agree=not disagreements,
        disagreements=disagreements,
        seconds=round(seconds, 3),
        inputs={topic: sight.records[topic] for topic in INPUT_TOPICS},
        inputs_handled={topic: tally.inputs[topic] for topic in INPUT_TOPICS},
        decisions={str(outcome): count for outcome, count in tally.decisions.items()},
        decisions_total=tally.decisions_total,
        steps=tally.steps,
        steps_fenced=tally.steps_fenced,
        audit_rows=sight.audit_decisions,
        audit_steps=sight.audit_steps,
        published={topic: sight.records[topic] for topic in (TASK_ROUTED, TASK_AWAIT_SLOT)},
        dead_letters={"journal": tally.dead_letters, "topics": _dead_letters(sight)},
        counts=dict(tally.counts),
        work=dict(tally.work),
        waits=_waits(tally),
        rates=Rates(
            inputs_per_s=round(tally.inputs.total() / seconds, 1) if seconds else 0.0,
            decisions_per_s=round(tally.decisions_total / seconds, 1) if seconds else 0.0,
        ),
        tiers={str(tier): count for tier, count in sorted(tally.tiers.items())},
        models=dict(tally.models.most_common()),
        reasons=dict(tally.reasons.most_common()),
        money=Money(
            estimated_usd=tally.estimated_uusd / 1e6,
            told_usd=round(tally.spent_usd, 6),
            saved_vs_premium_usd=tally.saved_vs_premium_uusd / 1e6,
            saved_vs_next_free_usd=tally.saved_vs_next_free_uusd / 1e6,
        ),
        ev_p50=tally.p50,
        ev_p90=tally.p90,
        tasks=Tasks(
            sample=progress.tasks if progress else 0,
            sent=progress.sent if progress else 0,
            waiting=standing["waiting"],
            running=standing["running"],
            held=standing["held"],
        ),
        restarts=restarts,
    )


def compare(tally: Tally, sight: Sight, progress: Progress | None) -> Iterator[str]:
    """Name each promise that the numbers break at this moment; while work is going on, some always are."""
    if sight.inputs_unhandled:
        yield f"{sight.inputs_unhandled} inputs stand in the topics and in no step of the journal."
    if sight.journal_unread:
        yield f"{sight.journal_unread} journal records were not read yet."
    if sight.audit_steps != tally.steps:
        yield f"The journal has {tally.steps} steps and the audit {sight.audit_steps}."
    if sight.audit_decisions != tally.decisions_total:
        yield f"The journal has {tally.decisions_total} decisions and the audit {sight.audit_decisions} rows."
    routed = tally.decisions["routed"]
    others = tally.decisions_total - routed - tally.decisions["dead_lettered"]
    # Delivery is at least once: more is a repetition, less is a loss.
    for what, wanted, found in (
        (TASK_ROUTED, routed, sight.records[TASK_ROUTED]),
        (TASK_AWAIT_SLOT, others, sight.records[TASK_AWAIT_SLOT]),
        ("the dead-letter topics together", tally.dead_letters, _dead_letters(sight)),
    ):
        if found < wanted:
            yield f"The journal has {wanted} records for {what}, which hold {found}."
    if progress is not None and not progress.all_sent:
        yield f"{progress.tasks - progress.sent} tasks of the sample were not sent yet."
    elif progress is not None and tally.live_tasks:
        yield f"{tally.live_tasks} tasks are not finished."


def _dead_letters(sight: Sight) -> int:
    return sum(count for topic, count in sight.records.items() if topic.endswith(DEAD_LETTER_SUFFIX))


def _waits(tally: Tally) -> Waits | None:
    p50, p95, longest = (tally.wait_ms(share) for share in (0.50, 0.95, 1.0))
    if p50 is None or p95 is None or longest is None:
        return None
    return Waits(p50_s=p50 / 1000, p95_s=p95 / 1000, max_s=longest / 1000)
