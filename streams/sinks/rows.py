"""A step as rows of the audit: one of `journal_steps`, and one for each decision and each outcome of work.

Pure. The order of values is the order of columns in `sql/queries.sql`; all are text, numbers or nothing, as COPY
takes them. Times are written from milliseconds, money from micro-dollars: exact, and the same on any machine.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from schemas.vocabulary import from_millis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.decision import Decision
    from streams.sinks.follow import Journaled

Value = str | int | float | None
Row = tuple[Value, ...]

#: What Postgres does not take in a text: NUL, and halves of a UTF-16 pair.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
#: The escape of NUL, behind an even number of backslashes: an odd one would make it plain text.
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_time = lru_cache(maxsize=4096)(from_millis)


def step_row(journal: str, journaled: Journaled) -> Row:
    """Give the row that says this step stands here."""
    step = journaled.step
    return (
        journal, step.partition, step.seq, journaled.offset, _time(step.now_ms), step.mode,
        len(step.inputs), len(step.rejected), len(step.decisions), len(step.work),
        f"\\x{journaled.sha256.hex()}", f"\\x{journaled.chain.hex()}",
    )  # fmt: skip


def decision_rows(journal: str, journaled: Journaled) -> Iterator[Row]:
    """Give a row for each decision of the step."""
    step = journaled.step
    of_step = (step.mode, step.policy, step.catalog)
    suspicious = _is_suspicious(journaled.raw)
    for decision in step.decisions:
        alternatives = bytes(decision.alternatives).decode()
        if suspicious:
            alternatives = storable_json(alternatives)
        row = _decision_row(journal, step.partition, step.seq, of_step, decision, alternatives)
        yield storable(row) if suspicious else row


def outcome_rows(journal: str, journaled: Journaled) -> Iterator[Row]:
    """Give a row for each outcome that the step joined to a decision."""
    step = journaled.step
    for work in step.work:
        told = work.outcome
        row = (
            work.decision_id, step.partition, step.seq, work.pool, told.task_id, work.slot_id, work.model, work.lease,
            _time(step.now_ms), _time(work.at_ms), told.status, told.input_tokens, told.output_tokens,
            None if told.cost_usd is None else usd(round(told.cost_usd * 1_000_000)),
            told.latency_s, told.quality, _flag(told.accepted), told.error_class, told.fit, step.mode, journal,
        )  # fmt: skip
        yield storable(row) if _is_suspicious(journaled.raw) else row


def usd(uusd: int | None) -> str | None:
    """Write micro-dollars as dollars, all six digits."""
    if uusd is None:
        return None
    dollars, rest = divmod(abs(uusd), 1_000_000)
    return f"{'-' if uusd < 0 else ''}{dollars}.{rest:06d}"


def day(at_ms: int) -> str:
    """Name the day (UTC) of a moment."""
    return _time(at_ms)[:10]


def storable(row: Row) -> Row:
    """Replace what Postgres refuses, so that one odd letter does not stop the audit; all else stays."""
    return tuple(_UNSTORABLE.sub(_REPLACEMENT, value) if isinstance(value, str) else value for value in row)


def storable_json(text: str) -> str:
    """Do the same inside JSON text, where NUL hides behind an escape that jsonb resolves, and refuses."""
    return _ESCAPED_NUL.sub(rf"\1{_REPLACEMENT}", text)


def _is_suspicious(raw: bytes) -> bool:
    # In a record that is valid JSON in valid UTF-8, such letters can only stand as an escape.
    return b"\\u" in raw


def _flag(value: bool | None) -> str | None:  # noqa: FBT001 - it is the value itself
    return None if value is None else "t" if value else "f"


def _decision_row(
    journal: str, partition: int, seq: int, of_step: tuple[str, str, str], decision: Decision, alternatives: str
) -> Row:
    return (
        decision.decision_id, partition, seq, decision.pool, decision.task_id, decision.outcome,
        decision.chosen_slot_id, decision.chosen_model, decision.tier, alternatives,
        decision.reason_code, decision.reason, _time(decision.decided_at_ms), _time(decision.at_ms),
        decision.layer, decision.lane, decision.agent_role, decision.task_type, decision.tenant_id,
        decision.complexity, decision.strategy, decision.objective, decision.priority,
        decision.ev, decision.ev_percentile, decision.p50, decision.p90, "t" if decision.lifted else "f",
        decision.utilisation, usd(decision.estimated_cost_uusd), usd(decision.saved_vs_premium_uusd),
        usd(decision.saved_vs_next_free_uusd), decision.propensity, decision.attempt, decision.lease,
        decision.max_tokens, *of_step, decision.input_topic, partition, decision.input_offset, journal,
    )  # fmt: skip
