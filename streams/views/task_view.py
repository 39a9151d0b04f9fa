"""One task for a person: what happened to it, in order, and each decision as a grid of models and gates. Pure.

Its input are the entries of `explain`; a decision that the audit does not have yet is made an entry here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from schemas.decision import Decision, Finished, HistoryEntry, Step, TaskRow
from schemas.vocabulary import GATES, from_millis
from streams.views.explain import alternatives_of
from streams.views.units import span, usd

#: `passed` and `failed` of a gate that was asked, `open` of one that was not, because an earlier one refused.
Mark: TypeAlias = Literal["passed", "failed", "open"]
#: Verdicts of a model that every gate admitted.
_AFTER_GATES: Final = ("chosen", "ok", "busy", "lost")


class GridRow(Struct, frozen=True, kw_only=True):
    """One model against every gate."""

    model: str
    verdict: str
    marks: tuple[Mark, ...]
    #: Meaning of the verdict, as the end of "opus ...".
    means: str
    score: float | None
    chosen: bool


class Event(Struct, frozen=True, kw_only=True):
    """One entry of a task's history."""

    at: str
    what: str
    says: str
    #: Of a decision: its id.
    decision_id: str | None = None


def entry_of(decision: Decision, step: Step) -> dict[str, Any]:
    """Return a decision as `explain` has it, without what only the audit knows."""
    found: dict[str, Any] = {}
    for name, value in asdict(decision).items():
        if name.endswith("_ms"):
            found[name[:-3]] = None if value is None else from_millis(value)
        elif name.endswith("_uusd"):
            found[f"{name[:-5]}_usd"] = None if value is None else value / 1e6
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return {
        **found,
        "alternatives": alternatives_of(msgspec.json.decode(decision.alternatives)),
        "partition": step.partition,
        "seq": step.seq,
        "mode": step.mode,
        "policy": step.policy,
        "catalog": step.catalog,
        "journal": step.journal,
        "asked": None,
        "work": None,
        "money": [],
        "sent_again": [],
    }


def grid(entry: Mapping[str, Any]) -> list[GridRow]:
    """Return every model of the decision, the one that passed the most gates first."""
    return [
        GridRow(
            model=one["model"],
            verdict=(verdict := one.get("gate", "")),
            marks=tuple(_marks(verdict)),
            means=one["means"],
            score=one.get("score"),
            chosen=verdict == "chosen",
        )
        for one in entry["alternatives"]
    ]


def _marks(verdict: str) -> Iterable[Mark]:
    if verdict not in GATES:
        yield from ("passed" if verdict in _AFTER_GATES else "open" for _ in GATES)
        return
    at = GATES.index(verdict)
    for place in range(len(GATES)):
        yield "passed" if place < at else "failed" if place == at else "open"


def free_then(entry: Mapping[str, Any]) -> list[str]:
    """Return the models that had a free slot which the task could have had."""
    return [one["model"] for one in entry["alternatives"] if one.get("gate") in ("ok", "chosen")]


def history(entries: Sequence[Mapping[str, Any]], row: TaskRow | None, end: Finished | None) -> list[Event]:
    """Return what happened to a task, oldest first: arrival, waits, decisions, work, money, end."""
    found: list[Event] = []
    if row is None and entries:
        found.append(Event(at=entries[0]["at"], what="sent", says="By its producer's clock."))
    if row is not None:
        found += [_of_history(one) for one in row.status.history if one.what not in ("waits", "routed")]
    for entry in entries:
        found.append(_of_decision(entry))
        if (work := entry["work"]) is not None:
            found.append(_of_work(work))
        found += [
            Event(at=one["at"], what="money", says=f"{one['kind']} {usd(one['amount_usd'])}.") for one in entry["money"]
        ]
        found += [
            Event(at=one["at"], what="sent again", says=f"Ignored: it had ended at {one['ended_at']} ({one['ended']}).")
            for one in entry["sent_again"]
        ]
    if end is not None:
        found.append(Event(at=from_millis(end.at_ms), what="end", says=f"It ended: {end.what}."))
    return sorted(found, key=lambda one: one.at)


def _of_history(one: HistoryEntry) -> Event:
    return Event(at=from_millis(one.at_ms), what=one.what, says=f"{one.detail}." if one.detail else "")


def _of_decision(entry: Mapping[str, Any]) -> Event:
    what = entry["outcome"]
    if what == "routed":
        what = f"routed to {entry['chosen_slot_id']}"
    return Event(at=entry["decided_at"], what=what, says=entry["reason"], decision_id=str(entry["decision_id"]))


def _of_work(work: Mapping[str, Any]) -> Event:
    cost = work["actual_cost_usd"] if work["actual_cost_usd"] is not None else work["cost_usd"]
    parts = [str(work["status"])]
    parts += [usd(cost)] if cost is not None else []
    parts += [span(work["latency_s"])] if work["latency_s"] is not None else []
    parts += [f"quality {work['quality']:g}"] if work["quality"] is not None else []
    parts += [str(work[name]) for name in ("fit", "error_class") if work[name] is not None]
    return Event(at=work["ended_at"], what="work ended", says=f"{', '.join(parts)}.")
