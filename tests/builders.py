"""Values for tests, built by naming only what matters; the rest is ordinary."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from schemas.codec import encode_step
from schemas.decision import Accepted, Decision, Step, WorkDone
from schemas.events import Outcome
from schemas.vocabulary import Millis

if TYPE_CHECKING:
    from collections.abc import Iterable

#: 2026-11-21T10:00:00.000Z, when every story begins.
START_MS = 1_795_255_200_000


def decision(**named: Any) -> Decision:
    """Give a decision; `alternatives` may be a dict. Its id follows from pool, task and `of`, the step's number."""
    of = named.pop("of", 0)
    fields: dict[str, Any] = {
        "task_id": "t-1",
        "pool": "main",
        "outcome": "routed",
        "decided_at_ms": START_MS,
        "attempt": 1,
        "priority": 50,
        "strategy": "cheapest_capable",
        "input_topic": "task.pending",
        "input_offset": 0,
        **named,
    }
    routed = fields["outcome"] == "routed"
    fields.setdefault("at_ms", fields["decided_at_ms"])
    fields.setdefault("waiting_since_ms", fields["at_ms"])
    fields.setdefault("reason_code", "cheapest_capable" if routed else "capable_busy")
    fields.setdefault("reason", "Cheapest capable class." if routed else "Every capable slot is busy.")
    if routed:
        fields.setdefault("chosen_slot_id", "haiku-1")
        fields.setdefault("chosen_model", "haiku")
        fields.setdefault("tier", 1)
        fields.setdefault("lease", 1)
        fields.setdefault("lease_expires_at_ms", fields["decided_at_ms"] + 900_000)
        fields.setdefault("max_tokens", 1024)
    alternatives = fields.setdefault("alternatives", {"haiku": {"gate": "chosen" if routed else "busy"}})
    if not isinstance(alternatives, Raw):
        fields["alternatives"] = Raw(json.dumps(alternatives, separators=(",", ":")).encode())
    fields.setdefault("decision_id", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{fields['pool']}/{of}/{fields['task_id']}")))
    return Decision(**fields)


def work(of: Decision, **named: Any) -> WorkDone:
    """Give the outcome of the work that a decision started: a success, if nothing else is said."""
    at_ms = named.pop("at_ms", of.decided_at_ms + 60_000)
    return WorkDone(
        decision_id=of.decision_id,
        pool=of.pool,
        slot_id=of.chosen_slot_id or "haiku-1",
        model=of.chosen_model or "haiku",
        lease=of.lease or 1,
        at_ms=Millis(at_ms),
        outcome=Outcome(**{"task_id": of.task_id, "status": "success", **named}),
    )


def step(seq: int = 0, *decisions: Decision, **named: Any) -> Step:
    """Give a step that holds these decisions, and as many inputs."""
    now_ms = max((one.decided_at_ms for one in decisions), default=START_MS + seq)
    fields: dict[str, Any] = {
        "partition": 0,
        "now_ms": now_ms,
        "policy": "policy-1",
        "catalog": "catalog-1",
        "inputs": tuple(Accepted(0, 1000 * seq + place, Millis(now_ms)) for place in range(max(1, len(decisions)))),
        **named,
    }
    return Step(seq=seq, decisions=decisions, **fields)


def journal(steps: Iterable[Step]) -> list[bytes]:
    """Give steps as the values of journal records."""
    return [encode_step(one) for one in steps]
