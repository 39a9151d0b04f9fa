"""Tasks whose choice differs between two courses of events, and the rule that made it differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from schemas.decision import Decision
from schemas.vocabulary import GATES
from streams.replay.recording import Key


class Changed(Struct, frozen=True, kw_only=True):
    """A task that another model got; None: it got none in the window."""

    task_id: str
    pool: str
    ev: float | None
    recorded_model: str | None
    replayed_model: str | None
    recorded_tier: int | None
    replayed_tier: int | None
    #: Estimated cost of the replayed choice less that of the recorded one.
    usd_more: float | None
    #: Wait of the replayed choice less that of the recorded one.
    wait_s_more: float | None
    #: A gate, `lift`, `strategy`, what decided between slots, `busy` (other slots were free), or `later`.
    rule: str
    recorded_reason: str
    replayed_reason: str
    #: The rules alone change it: in the recorded situation too they choose another model.
    is_direct: bool = False


def first_choices(decisions: Iterable[Decision]) -> dict[Key, Decision]:
    """Return each task's first decision that routed it."""
    found: dict[Key, Decision] = {}
    for one in decisions:
        if one.outcome == "routed":
            found.setdefault((one.pool, one.task_id), one)
    return found


def changes(
    recorded: Mapping[Key, Decision], replayed: Mapping[Key, Decision], direct: Iterable[Key] = ()
) -> list[Changed]:
    """Return the tasks with another model, those first whose cost differs most."""
    alone = set(direct)
    found = []
    for key in dict.fromkeys([*recorded, *replayed]):
        before, after = recorded.get(key), replayed.get(key)
        if before is None or after is None or before.chosen_model != after.chosen_model:
            found.append(_changed(key, before, after, is_direct=key in alone))
    return sorted(found, key=lambda one: (-abs(one.usd_more or 0.0), one.pool, one.task_id))


def rule_between(recorded: Decision, replayed: Decision) -> str:
    """Return what made two decisions about one task differ.

    A gate that one side shut and the other opened comes first, then lift, then a slot that only one side had free,
    then the strategy, then what the strategy's leftovers were compared by.
    """
    before, after = _alternatives(recorded), _alternatives(replayed)
    was, became = recorded.chosen_model or "", replayed.chosen_model or ""
    for verdicts, model in ((after, was), (before, became)):
        gate = verdicts.get(model, {}).get("gate")
        if gate in GATES:
            return str(gate)
    if recorded.lifted != replayed.lifted:
        return "lift"
    if {after.get(was, {}).get("gate"), before.get(became, {}).get("gate")} & {"busy", "lost", None}:
        return "busy"
    if recorded.reason_code != replayed.reason_code:
        return "strategy"
    return str(after.get(was, {}).get("behind") or "tier")


def _changed(key: Key, before: Decision | None, after: Decision | None, *, is_direct: bool) -> Changed:
    some = before or after
    assert some is not None  # noqa: S101 -- the key is of one of the two
    cost_before, cost_after = (one.estimated_cost_uusd if one is not None else None for one in (before, after))
    return Changed(
        task_id=key[1],
        pool=key[0],
        ev=some.ev,
        recorded_model=before.chosen_model if before is not None else None,
        replayed_model=after.chosen_model if after is not None else None,
        recorded_tier=before.tier if before is not None else None,
        replayed_tier=after.tier if after is not None else None,
        usd_more=(cost_after - cost_before) / 1e6 if cost_after is not None and cost_before is not None else None,
        wait_s_more=_wait_s(after) - _wait_s(before) if before is not None and after is not None else None,
        rule=rule_between(before, after) if before is not None and after is not None else "later",
        recorded_reason=before.reason if before is not None else "",
        replayed_reason=after.reason if after is not None else "",
        is_direct=is_direct,
    )


def _wait_s(decision: Decision) -> float:
    return (decision.decided_at_ms - decision.waiting_since_ms) / 1000


def _alternatives(decision: Decision) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(decision.alternatives)
    return found
