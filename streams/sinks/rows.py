"""Rows of the audit from a step, in COPY's text format: its own row, then those of its decisions, outcomes and so on.

Pure. The order of values is the order of columns in `sql/queries.sql`. Times are written from milliseconds, money from
micro-dollars: exact, and the same on any machine. Formatting is most of what the sink does, so a row is one f-string,
and texts are checked character by character only where the record's bytes require it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import asdict, replace

from schemas.vocabulary import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.decision import Decision, Duplicate, MoneyMovement, WorkDone
    from streams.sinks.ports import JournaledStep

_NULL: Final = r"\N"

#: Characters that Postgres refuses in a text: NUL, and halves of a UTF-16 pair.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
#: The escape of NUL, behind an even number of backslashes: an odd one would make it plain text.
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: In a text of a JSON record every character that COPY or Postgres must not see has a backslash before it; between the
#: texts of another writer's JSON there may be white space.
_CAUSES: Final = (b"\\", b"\t", b"\n", b"\r")
#: Characters with a meaning in COPY.
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
#: Outcomes of decisions about a task that goes on.
_OF_A_LIVE_TASK: Final = ("routed", "waiting")
_ENCODE: Final = msgspec.json.Encoder().encode

_Row = TypeVar("_Row", bound=Struct)


class _Said(Struct, frozen=True):
    """Fields of every operator's event."""

    by: str
    at: str
    pool: str | None = None


_SAID: Final = msgspec.json.Decoder(_Said)


def step_line(journal: str, journaled: JournaledStep) -> str:
    """Return the row of the step itself."""
    step = journaled.step
    return (
        f"{escaped(journal)}\t{step.partition}\t{step.seq}\t{journaled.offset}\t{_time(step.now_ms)}\t{step.mode}\t"
        f"{len(step.inputs)}\t{len(step.rejected)}\t{len(step.decisions)}\t{len(step.work)}\t"
        f"{len(step.controls)}\t{len(step.money)}\t{_duplicates(step.duplicates) if step.duplicates else _NULL}\t"
        f"\\\\x{journaled.sha256.hex()}\t\\\\x{journaled.chain.hex()}\t"
        f"{_NULL if step.journal is None else escaped(step.journal)}\n"
    )


def decision_lines(journal: str, journaled: JournaledStep, *, titles: bool = True) -> Iterator[str]:
    """Return a row for each decision of the step, with the title of its task unless titles are left out."""
    step = journaled.step
    if not step.decisions:
        return
    decisions: Iterable[Decision] = step.decisions
    if odd := _is_odd(journaled):
        decisions = map(_with_plain_alternatives, map(_with_plain_texts, decisions))
    taken_in = {(one.task.pool, one.task.task_id): one for one in step.tasks}
    null = _NULL
    start = f"{step.partition}\t{step.seq}\t"
    end = f"\t{step.mode}\t{escaped(step.policy)}\t{escaped(step.catalog)}\t{step.partition}\t{escaped(journal)}\n"
    # The values that most decisions of a step share are formatted once.
    now_ms, now = step.now_ms, _time(step.now_ms)
    p50 = p90 = None
    percentiles = f"{null}\t{null}"
    for one in decisions:
        if one.p50 != p50 or one.p90 != p90:
            p50, p90 = one.p50, one.p90
            percentiles = f"{null if p50 is None else p50}\t{null if p90 is None else p90}"
        asked = null
        # The end of a life that another one followed in the step is not about the task that was taken in.
        if (
            taken_in
            and one.outcome in _OF_A_LIVE_TASK
            and (taken := taken_in.pop((one.pool, one.task_id), None)) is not None
        ):
            asked = str(_ENCODE(taken.asked()), "utf-8")
            if odd:
                asked = escaped_json(asked)
        cost, premium, next_free = one.estimated_cost_uusd, one.saved_vs_premium_uusd, one.saved_vs_next_free_uusd
        # Words and ids are never empty, tiers never 0: `or` is enough for them.
        yield (
            f"{start}{one.decision_id}\t{one.pool}\t{one.task_id}\t{one.outcome}\t{one.chosen_slot_id or null}\t"
            f"{one.chosen_model or null}\t{one.tier or null}\t{str(one.alternatives, 'utf-8')}\t{one.reason_code}\t"
            f"{one.reason}\t{now if one.decided_at_ms == now_ms else _time(one.decided_at_ms)}\t{_time(one.at_ms)}\t"
            f"{one.layer or null}\t{one.lane or null}\t{one.agent_role or null}\t{one.task_type or null}\t"
            f"{one.tenant_id or null}\t{one.complexity or null}\t{one.strategy}\t{one.objective or null}\t"
            f"{one.priority}\t{null if one.ev is None else one.ev}\t"
            f"{null if one.ev_percentile is None else one.ev_percentile}\t{percentiles}\t{'t' if one.lifted else 'f'}\t"
            f"{null if one.utilisation is None else one.utilisation}\t{null if cost is None else f'{cost}e-6'}\t"
            f"{null if premium is None else f'{premium}e-6'}\t{null if next_free is None else f'{next_free}e-6'}\t"
            f"{null if one.propensity is None else one.propensity}\t{one.attempt}\t"
            f"{null if one.lease is None else one.lease}\t{null if one.max_tokens is None else one.max_tokens}\t"
            f"{one.input_topic}\t{one.input_offset}\t{_texts(one.flags) if one.flags else '{}'}\t"
            f"{'t' if one.fallback else 'f'}\t{one.priced_at or null}\t{asked}\t"
            f"{(titles and one.title) or null}\t"
            f"{one.chosen_provider or null}\t{one.chosen_account or null}\t{_time(one.waiting_since_ms)}{end}"
        )


def outcome_lines(journal: str, journaled: JournaledStep) -> Iterator[str]:
    """Return a row for each outcome of the step."""
    step = journaled.step
    if not step.work:
        return
    outcomes: Iterable[WorkDone] = step.work
    if _is_odd(journaled):
        outcomes = (replace(_with_plain_texts(one), outcome=_with_plain_texts(one.outcome)) for one in outcomes)
    null = _NULL
    start = f"{step.partition}\t{step.seq}\t"
    end = f"\t{_time(step.now_ms)}\t{step.mode}\t{escaped(journal)}\n"
    for one in outcomes:
        outcome = one.outcome
        yield (
            f"{start}{one.decision_id}\t{one.pool}\t{outcome.task_id}\t{one.slot_id}\t{one.model}\t{one.lease}\t"
            f"{_time(one.at_ms)}\t{outcome.status}\t{null if outcome.input_tokens is None else outcome.input_tokens}\t"
            f"{null if outcome.output_tokens is None else outcome.output_tokens}\t"
            f"{null if outcome.cost_usd is None else usd(round(outcome.cost_usd * 1_000_000))}\t"
            f"{null if outcome.latency_s is None else outcome.latency_s}\t"
            f"{null if outcome.quality is None else outcome.quality}\t"
            f"{null if outcome.accepted is None else outcome.accepted}\t"
            f"{outcome.error_class or null}\t{outcome.fit or null}\t{usd(one.cost_uusd)}{end}"
        )


def control_lines(journal: str, journaled: JournaledStep) -> Iterator[str]:
    """Return a row for each operator's event of the step; they are rare, so their texts are always checked."""
    step = journaled.step
    for one in step.controls:
        said = _SAID.decode(one.event)
        yield (
            f"{step.partition}\t{step.seq}\t{escaped(one.control_id)}\t{escaped(one.kind)}\t{escaped(said.by)}\t"
            f"{_NULL if said.pool is None else escaped(said.pool)}\t{_time(to_millis(said.at))}\t{_time(one.at_ms)}\t"
            f"{escaped_json(str(one.event, 'utf-8'))}\t{step.mode}\t{escaped(journal)}\n"
        )


def money_lines(journal: str, journaled: JournaledStep) -> Iterator[str]:
    """Return a row for each movement in a budget."""
    step = journaled.step
    if not step.money:
        return
    movements: Iterable[MoneyMovement] = step.money
    if _is_odd(journaled):
        movements = map(_with_plain_texts, movements)
    null = _NULL
    start = f"{step.partition}\t{step.seq}\t"
    end = f"\t{step.mode}\t{escaped(journal)}\n"
    for place, one in enumerate(movements):
        yield (
            f"{start}{place}\t{one.pool}\t{one.tenant_id}\t{one.kind}\t{usd(one.amount_uusd)}\t"
            f"{one.decision_id or null}\t{one.control_id or null}\t{_time(one.at_ms)}{end}"
        )


def _duplicates(duplicates: Iterable[Duplicate]) -> str:
    """Write tasks that were sent again for nothing as JSON; ids and words need no escape in it."""
    rows = [
        {
            "pool": one.pool,
            "task_id": one.task_id,
            "at": _time(one.at_ms),
            "ended": one.ended,
            "ended_at": _time(one.ended_ms),
        }
        for one in duplicates
    ]
    return str(_ENCODE(rows), "utf-8")


def day(at_ms: int) -> str:
    """Return the day (UTC) of a time."""
    return _time(at_ms)[:10]


def usd(uusd: int | None) -> str:
    """Write micro-dollars as dollars: Postgres accepts the power of ten, and keeps all six digits."""
    return _NULL if uusd is None else f"{uusd}e-6"


def escaped(text: str) -> str:
    """Write a text for COPY; characters that Postgres refuses are replaced, so that one does not stop the audit."""
    return _UNSTORABLE.sub(_REPLACEMENT, text).translate(_ESCAPES)


def escaped_json(text: str) -> str:
    """Do the same for JSON text, in which NUL is an escape that jsonb resolves and refuses."""
    return escaped(_ESCAPED_NUL.sub(rf"\1{_REPLACEMENT}", text))


def _is_odd(journaled: JournaledStep) -> bool:
    return any(cause in journaled.raw for cause in _CAUSES)


def _with_plain_texts(row: _Row) -> _Row:
    return replace(row, **{name: escaped(value) for name, value in asdict(row).items() if isinstance(value, str)})


def _with_plain_alternatives(decision: Decision) -> Decision:
    return replace(decision, alternatives=Raw(escaped_json(str(decision.alternatives, "utf-8")).encode()))


@lru_cache(maxsize=256)
def _texts(texts: tuple[str, ...]) -> str:
    """Write a list of texts as an array: each in quotes and escaped, and all of it escaped for COPY."""
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    return escaped("{" + ",".join(quoted) + "}")


@lru_cache(maxsize=4096)
def _second(at_s: int) -> str:
    return from_millis(at_s * 1000)[:-4]


def _time(at_ms: int) -> str:
    # Many rows share a second: only its milliseconds are formatted again.
    return f"{_second(at_ms // 1000)}{at_ms % 1000:03d}Z"
