"""A step as rows of the audit, in the text that COPY takes: one of `journal_steps`, one a decision, one an outcome.

Pure. The order of values is the order of columns in `sql/queries.sql`. Times are written from milliseconds, money from
micro-dollars: exact, and the same on any machine. Formatting is most of what the sink does, so a row is one f-string,
and texts are looked at letter by letter only where the record's bytes give cause to.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Raw
from msgspec.structs import asdict, replace

from schemas.vocabulary import from_millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.decision import Decision, WorkDone
    from streams.sinks.follow import Journaled

_NULL: Final = r"\N"

#: What Postgres does not take in a text: NUL, and halves of a UTF-16 pair.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
#: The escape of NUL, behind an even number of backslashes: an odd one would make it plain text.
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: Within a text of a JSON record, nothing that COPY or Postgres minds can stand without a backslash; between the texts
#: of another writer's JSON there may be white space.
_CAUSES: Final = (b"\\", b"\t", b"\n", b"\r")
#: What means something to COPY.
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def step_line(journal: str, journaled: Journaled) -> str:
    """Give the row that says this step stands here."""
    step = journaled.step
    return (
        f"{escaped(journal)}\t{step.partition}\t{step.seq}\t{journaled.offset}\t{_time(step.now_ms)}\t{step.mode}\t"
        f"{len(step.inputs)}\t{len(step.rejected)}\t{len(step.decisions)}\t{len(step.work)}\t"
        f"\\\\x{journaled.sha256.hex()}\t\\\\x{journaled.chain.hex()}\n"
    )


def decision_lines(journal: str, journaled: Journaled) -> Iterator[str]:
    """Give a row for each decision of the step."""
    step = journaled.step
    decisions: Iterable[Decision] = step.decisions
    if any(letter in journaled.raw for letter in _CAUSES):
        decisions = map(_with_plain_texts, decisions)
    null = _NULL
    start = f"{step.partition}\t{step.seq}\t"
    end = f"\t{step.mode}\t{escaped(step.policy)}\t{escaped(step.catalog)}\t{step.partition}\t{escaped(journal)}\n"
    for one in decisions:
        # Words and ids are never empty, tiers never 0: `or` is enough for them.
        yield (
            f"{start}{one.decision_id}\t{one.pool}\t{one.task_id}\t{one.outcome}\t{one.chosen_slot_id or null}\t"
            f"{one.chosen_model or null}\t{one.tier or null}\t{str(one.alternatives, 'utf-8')}\t{one.reason_code}\t"
            f"{one.reason}\t{_time(one.decided_at_ms)}\t{_time(one.at_ms)}\t{one.layer or null}\t{one.lane or null}\t"
            f"{one.agent_role or null}\t{one.task_type or null}\t{one.tenant_id or null}\t{one.complexity or null}\t"
            f"{one.strategy}\t{one.objective or null}\t{one.priority}\t{null if one.ev is None else one.ev}\t"
            f"{null if one.ev_percentile is None else one.ev_percentile}\t{null if one.p50 is None else one.p50}\t"
            f"{null if one.p90 is None else one.p90}\t{'t' if one.lifted else 'f'}\t"
            f"{null if one.utilisation is None else one.utilisation}\t{usd(one.estimated_cost_uusd)}\t"
            f"{usd(one.saved_vs_premium_uusd)}\t{usd(one.saved_vs_next_free_uusd)}\t"
            f"{null if one.propensity is None else one.propensity}\t{one.attempt}\t"
            f"{null if one.lease is None else one.lease}\t{null if one.max_tokens is None else one.max_tokens}\t"
            f"{one.input_topic}\t{one.input_offset}{end}"
        )


def outcome_lines(journal: str, journaled: Journaled) -> Iterator[str]:
    """Give a row for each outcome that the step joined to a decision."""
    step = journaled.step
    for work in step.work:
        values = (step.partition, step.seq, *_outcome(work), _time(step.now_ms), step.mode, journal)
        yield "\t".join(map(_plain, values)) + "\n"


def day(at_ms: int) -> str:
    """Name the day (UTC) of a moment."""
    return _time(at_ms)[:10]


@lru_cache(maxsize=4096)
def usd(uusd: int | None) -> str:
    """Write micro-dollars as dollars, all six digits."""
    if uusd is None:
        return _NULL
    dollars, rest = divmod(abs(uusd), 1_000_000)
    return f"{'-' if uusd < 0 else ''}{dollars}.{rest:06d}"


def escaped(text: str) -> str:
    """Write a text for COPY; what Postgres refuses is replaced, so that one odd letter does not stop the audit."""
    return _UNSTORABLE.sub(_REPLACEMENT, text).translate(_ESCAPES)


def escaped_json(text: str) -> str:
    """Do the same for JSON text, where NUL hides behind an escape that jsonb resolves, and refuses."""
    return escaped(_ESCAPED_NUL.sub(rf"\1{_REPLACEMENT}", text))


def _with_plain_texts(decision: Decision) -> Decision:
    texts = {name: escaped(value) for name, value in asdict(decision).items() if isinstance(value, str)}
    alternatives = Raw(escaped_json(str(decision.alternatives, "utf-8")).encode())
    return replace(decision, alternatives=alternatives, **texts)


def _outcome(work: WorkDone) -> tuple[object, ...]:
    told = work.outcome
    return (
        work.decision_id, work.pool, told.task_id, work.slot_id, work.model, work.lease, _time(work.at_ms),
        told.status, told.input_tokens, told.output_tokens,
        None if told.cost_usd is None else usd(round(told.cost_usd * 1_000_000)),
        told.latency_s, told.quality, told.accepted, told.error_class, told.fit,
    )  # fmt: skip


def _plain(value: object) -> str:
    return _NULL if value is None else escaped(value) if isinstance(value, str) else str(value)


@lru_cache(maxsize=4096)
def _second(at_s: int) -> str:
    return from_millis(at_s * 1000)[:-4]


def _time(at_ms: int) -> str:
    # Many rows share a second: only its milliseconds are written anew.
    return f"{_second(at_ms // 1000)}{at_ms % 1000:03d}Z"
