"""`explain --why-not` and the router give the same answer to the same question, whatever fleet, task, marks and money.

The question is put to the audit's part of a step, as the sink keeps it; what would have refused as well is held to the
reference model's gates.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Decision
from schemas.events import TaskPending
from schemas.steps import encode_step
from schemas.vocabulary import GATES, Gate, Millis, from_millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.policy.rules import BY_GATE
from streams.core.step.controls import MarkingControl
from streams.sinks.audit_step import read_audit_step
from streams.views.explain import _task as task_of
from streams.views.recorded import Recorded, marks_of
from streams.views.why_not import also_refusing, why_not
from tests.reference.gates import PREMIUM_TIER, Cell, Gates
from tests.reference.money import Ledger
from tests.reference.partition import ReferencePartition
from tests.reference.slot import Slot
from tests.reference.spend import Spend
from tests.reference.task import Task
from tests.support.builders import task
from tests.support.event_strategies import (
    FLEET,
    MARKS,
    MONEY,
    QUIRKS,
    QUOTAS,
    TASKS,
    VARIANTS,
    Making,
    Stage,
    announced,
    pending,
)
from tests.support.event_strategies import texts as texts_of
from tests.support.router_rig import RouterRig

ACCOUNTS = (None, None, "a1", "a2")
FLEETS = st.lists(st.tuples(st.sampled_from(FLEET), st.sampled_from(ACCOUNTS)), min_size=1, max_size=9)
#: EVs that become pending before the question; with fewer than five there are no percentiles.
WINDOWS = st.sampled_from([(), (5.0,) * 4, (1.0, 2.0, 5.0, 8.0, 9.0, 40.0), (50.0,) * 9])
#: What operators say before; of money, so much and no more.
SAID = st.lists(st.one_of(MARKS, QUOTAS, MONEY), max_size=5)
QUESTIONS = 1_000


class Question(NamedTuple):
    """A fleet, what was said of it, and a task that comes to it."""

    variant: str
    fleet: list[tuple[str, str | None]]
    window: tuple[float, ...]
    said: list[Making]
    #: So many tasks come before, and take what is free.
    before: int
    #: What the first of them has cost, in dollars; 0: it is not over.
    spent: float
    asks: Making


LIMITS = st.sampled_from(sorted(QUIRKS["limits"])).flatmap(
    lambda name: st.tuples(st.just("limits"), st.just(name), QUIRKS["limits"][name])
) | st.sampled_from(
    [
        ("strategies", "both", {"strategy": "preference", "task_type": "offline"}),
        ("limits", "both", {"requires": {"coding": 9}, "input_tokens": 2_000_000}),
    ]
)
#: It is decided as it comes; what gates look at comes more often than elsewhere.
THAT_ASK = st.builds(
    lambda quirks, limits: [*(one for one in quirks if one[0] != "times"), *limits], TASKS, st.lists(LIMITS, max_size=3)
)
ASKED = st.builds(
    Question,
    st.sampled_from([name for name in VARIANTS if name != "broken"]),
    FLEETS,
    WINDOWS,
    SAID,
    st.integers(0, 3),
    st.sampled_from([0.0, 0.0, 0.85, 1.2]),
    st.builds(pending, st.just(0), THAT_ASK, st.just("main")),
)


@pytest.mark.rule("record.explain")
def test_why_not_says_what_the_router_said() -> None:
    """The same gate, with what it looked at; and the gates named behind it would really have refused as well."""
    seen: Counter[str] = Counter()

    @settings(max_examples=800, derandomize=True)
    @given(ASKED)
    def ask(question: Question) -> None:
        for answer in _answers(question):
            seen["questions"] += 1
            seen[answer] += 1

    ask()
    assert seen["questions"] >= QUESTIONS
    # A property proves nothing about what never happened.
    assert {word for word in (*GATES, "busy", "ok") if not seen[word]} == set()
    assert {gate for gate in GATES[1:] if not seen[f"then {gate}"]} == set()
    assert seen["sole capable"], "opus was never the only one that could do it"


@cache
def _book(catalog: str, policy: str) -> Rulebook:
    return load_rulebook(catalog, policy)


def _answers(question: Question) -> Iterator[str]:
    """Put the question for every model; yield what was seen."""
    texts = texts_of(question.variant, 10, 0.0)
    book = _book(*texts)
    rig = RouterRig(book=book, strict=False)
    stage = Stage(rig)
    fleet = [
        announced(f"{slot_id}-{place}", model, account, "main", 0)
        for place, (slot_id, account) in enumerate(question.fleet)
        if (model := slot_id.rpartition("-")[0]) in book.models
    ]
    rig.hand_in_timed((0, making(stage)) for making in fleet)
    rig.hand_in(*(task(f"ev-{i}", ev=ev, deadline_ms=rig.now_ms) for i, ev in enumerate(question.window)))
    rig.hand_in(*(task(f"before-{i}", priority=100) for i in range(question.before)))
    if question.spent and question.before and (first := rig.status("before-0")) is not None and first.slot_id:
        rig.ends("before-0", cost_usd=question.spent)
    for making in question.said:
        rig.hand_in_timed([(0, making(stage))])
    asked = question.asks(stage)
    assert isinstance(asked, TaskPending)
    step = rig.hand_in(asked)
    decision = next((one for one in step.decisions if one.task_id == asked.task_id), None)
    if decision is None or decision.outcome not in ("routed", "waiting"):
        return
    recorded = _recorded(rig, decision)
    oracle = _Oracle(rig, texts, decision)
    for model, verdict in recorded.gates.items():
        answer = why_not(model, recorded)
        assert answer.gate == verdict
        if verdict == "chosen":
            continue
        yield verdict
        assert answer.flip, answer
        assert answer.notes == ()
        rule = BY_GATE.get(verdict)
        if rule is None:
            continue
        assert "does not stand in the audit" not in answer.says, answer
        assert oracle.refuses(rule.gate, model), f"{answer.says} The reference model lets it through."
        case = recorded.case()
        behind = [after.gate for after in also_refusing(rule, case, book.models[model])]
        assert len(answer.then) == len(behind)
        for gate in behind:
            assert oracle.refuses(gate, model), f"{model}: {gate} would not have refused as well"
            yield f"then {gate}"
    low = recorded.case().is_low
    if low and any(gate in ("ok", "busy", "chosen") and book.models[name].tier == PREMIUM_TIER
                   for name, gate in recorded.gates.items()):  # fmt: skip
        yield "sole capable"


def _recorded(rig: RouterRig, decision: Decision) -> Recorded:
    """What `explain_why_not` finds in the audit of this decision."""
    kept = read_audit_step(encode_step(rig.steps[-1]))
    (asked,) = (one.asked() for one in kept.tasks if one.task.task_id == decision.task_id)
    said = dict(asked)
    alternatives = json.loads(bytes(decision.alternatives))
    row: dict[str, Any] = {
        **{name: getattr(decision, name) for name in decision.__struct_fields__},
        "at": from_millis(decision.at_ms),
        "policy": kept.policy,
        "catalog": kept.catalog,
        "alternatives": [{"model": model, **verdict} for model, verdict in alternatives.items()],
    }
    ledger = rig.router.state.pool("main").ledgers.get(decision.tenant_id or "")
    own = sum(one.amount_uusd for one in kept.money if one.decision_id == decision.decision_id)
    return Recorded(
        decision=row,
        decided_ms=decision.decided_at_ms,
        ruled_out=said.pop("refused", {}),
        task=task_of(row, said),
        marks=marks_of(_marking(rig), "main", rig.book),
        available_uusd=ledger.available_uusd + own if ledger is not None else None,
        rulebook=rig.book,
    )


def _marking(rig: RouterRig) -> list[tuple[Millis, MarkingControl]]:
    """What was said of the fleet and taken, in its order."""
    taken = {one.control_id for step in rig.steps for one in step.controls}
    return [
        (item.now_ms, item.event)
        for batch in rig.batches
        for item in batch
        if isinstance(item.event, MarkingControl) and item.event.control_id in taken
    ]


def _spend(rig: RouterRig, now_ms: Millis) -> Spend:
    """What work that is over has cost."""
    paid = [(row.at_ms, row.tenant_id, row.lane, row.uusd) for step in rig.steps for row in step.spent]
    return Spend("main", paid, now_ms)


class _Oracle:
    """Whether a gate, asked alone, refuses a model under every account that it has slots of: by the reference model."""

    def __init__(self, rig: RouterRig, texts: tuple[str, str], decision: Decision) -> None:
        reference = ReferencePartition(*texts)
        for now_ms, event in _marking(rig):
            reference._condition(event, now_ms)
        pool = rig.router.state.pool("main")
        slots = [Slot(row.slot_id, row.model, row.account, 0, 0) for row in pool.slots.values() if not row.retired]
        row = pool.tasks[decision.task_id]
        self.task = Task(row.task, row.advice, decision.decided_at_ms, behind_ms=0)
        self.gates = Gates(
            reference.rules,
            reference.conditions.in_pool("main"),
            slots,
            decision.decided_at_ms,
            _spend(rig, decision.decided_at_ms),
        )
        self.rules, self.now_ms, self.decision = reference.rules, decision.decided_at_ms, decision
        ledger = pool.ledgers.get(decision.tenant_id or "")
        self.ledger = None
        if ledger is not None:
            self.ledger = Ledger()
            self.ledger.available = ledger.available_uusd + (row.status.reserved_uusd or 0)

    def refuses(self, gate: Gate, model: str) -> bool:
        """Of each of the model's cells."""
        return all(self._refuses(gate, cell) for cell in self.gates.cells if cell[0] == model)

    def _refuses(self, gate: Gate, cell: Cell) -> bool:
        name, account = cell
        event, rules, view, model = self.task.event, self.rules, self.gates.view, self.rules.model[cell[0]]
        match gate:
            case "capability":
                return any(model["ratings"][dimension] < bar for dimension, bar in event.requires.items())
            case "context":
                return rules.is_too_long(event, model)
            case "boundary":
                return self._is_beyond(name)
            case "floor":
                return bool(model["tier"] < max(self.task.tier_min, rules.floor(event)))
            case "exhausted":
                return view.exhausted(model["product"], account, self.now_ms)
            case "drained":
                return view.drained(name, self.now_ms)
            case "quota":
                return self.gates._used_up(model, account)
            case "premium":
                return self._is_kept(name)
            case "credit":
                return not self.gates.is_paid(self.task, name, self.ledger)

    def _is_beyond(self, name: str) -> bool:
        event, rules, model = self.task.event, self.rules, self.rules.model[name]
        lane, refused = rules.lane(event), self.task.advice.refused if self.task.advice is not None else {}
        allowed = lane.get("allow_models") or [name]
        excluded = [*rules.section("boundary").get("exclude_models", []), *lane.get("exclude_models", []), *refused]
        providers = event.allow_providers or (model["provider"],)
        if name in excluded or name not in allowed or model["provider"] in event.deny_providers:
            return True
        if model["provider"] not in providers or model["tier"] > (event.max_tier or 3):
            return True
        if event.local_only and not model["local"]:
            return True
        said = self.gates.cell_verdicts(self.task, self.decision.p50, self.ledger, closed=False)
        regular = [gate for cell, gate in said.items() if self.gates.is_regular(self.task, cell[0])]
        return not self.gates.is_regular(self.task, name) and None in regular

    def _is_kept(self, name: str) -> bool:
        if self.rules.tier[name] < PREMIUM_TIER or self.decision.p50 is None:
            return False
        if self.task.event.priority >= self.rules.section("premium")["priority_min"]:
            return False
        ev, p50 = self.task.ev, self.decision.p50
        able = [model for model, _ in self.gates.in_reach if self.gates._unable(self.task, model) is None]
        cheaper = [model for model in able if self.rules.tier[model] < PREMIUM_TIER]
        low = ev is None or ev < p50 - abs(p50) * 1e-9
        low &= not self.gates.is_patient(self.task)
        return low and any(self.gates.is_regular(self.task, model) for model in cheaper)
