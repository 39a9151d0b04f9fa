"""The audit of a history agrees with the router: balances, and why a model did not get a task."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from schemas.events import BudgetCredited, ModelDrained, ModelExhausted, ModelRestored, QuotaUpdated
from schemas.vocabulary import GATES, from_millis
from streams.core.router import Router
from streams.database.migrations import migrate
from streams.views.explain import explain_why_not
from tests.integration.test_sink_controls import ask, write
from tests.support.builders import START_MS, freed, inputs, rulebook, slot, task, topic_of

if TYPE_CHECKING:
    from schemas.decision import Step
    from schemas.events import Event

MINUTE_MS = 60_000
MODELS = ("opus", "sonnet", "codex", "haiku", "glm", "local")
TENANTS = ("acme", "initech", None)


class History:
    """Things that happen to a pool, a minute apart, all by chance but the same each time."""

    def __init__(self, seed: int) -> None:
        self.router = Router(0, rulebook())
        self.steps: list[Step] = []
        self._random = random.Random(seed)
        self._offsets = [0, 0, 0]
        self._now_ms = START_MS
        self._tasks = self._orders = 0

    def tell(self, *events: Event) -> None:
        """Hand them over at one moment, and let a minute pass."""
        found = []
        for event in events:
            topic = topic_of(event)
            found += inputs(event, now_ms=self._now_ms, offset=self._offsets[topic])
            self._offsets[topic] += 1
        step = self.router.handle(found)
        self.router.apply(step)
        self.steps.append(step)
        self._now_ms += MINUTE_MS

    def go_on(self) -> None:
        """Let something happen."""
        chance = self._random
        slots = self.router.state.pool("main").slots.values()
        leased = [row for row in slots if row.state == "leased"]
        late = [(row, row.unreported.task.task_id) for row in slots if row.unreported is not None]
        if late and chance.random() < 0.3:
            # Its lease has ended, and it reports its work all the same.
            row, task_id = late[0]
            cost = {"cost_usd": chance.random() / 10}
            self.tell(freed(row.slot_id, row.lease, task_id, outcome=cost, at_ms=self._now_ms))
            return
        what = chance.choices(("task", "free", "order"), (5, 4, 1))[0]
        if what == "free" and leased:
            row = chance.choice(leased)
            if chance.random() < 0.1:
                # It was started again, without its task.
                self.tell(slot(row.slot_id, account=row.account, at_ms=self._now_ms))
                return
            outcome = chance.choice(({}, {"cost_usd": chance.random() / 10}, {"input_tokens": 10_000}))
            status = chance.choice(("success", "success", "failure"))
            self.tell(freed(row.slot_id, row.lease, row.task_id, status, outcome=outcome, at_ms=self._now_ms))
        elif what == "order":
            self.tell(self._order())
        else:
            self.tell(*(self._task() for _ in range(chance.randint(1, 4))))

    def _task(self) -> Event:
        chance = self._random
        self._tasks += 1
        more: dict[str, Any] = chance.choice(
            (
                {}, {"requires": {"coding": 8}}, {"max_tier": 1}, {"floor_model": "sonnet"}, {"local_only": True},
                {"input_tokens": 40_000, "requires": {"safety": 3}}, {"deny_providers": ("anthropic",)},
                {"complexity": "standard", "on_failure": "escalate"}, {"strategy": "objective"},
                {"strategy": "preference", "task_type": "code"},
            )
        )  # fmt: skip
        return task(
            f"t-{self._tasks}", tenant_id=chance.choice(TENANTS), ev=round(chance.lognormvariate(1, 1), 3),
            priority=chance.choice((30, 50, 95)), at_ms=self._now_ms, **({"input_tokens": 2_000} | more),
        )  # fmt: skip

    def _order(self) -> Event:
        chance = self._random
        self._orders += 1
        until = from_millis(self._now_ms + 20 * MINUTE_MS)
        fields: dict[str, Any] = {"control_id": f"c-{self._orders}", "at": from_millis(self._now_ms), "by": "ops"}
        return chance.choice(
            (
                ModelExhausted(**fields, product="codex-cli", until=until),
                ModelExhausted(**fields, product="claude", account="acct-1", until=until),
                ModelDrained(**fields, model=chance.choice(MODELS)),
                ModelRestored(**fields, model=chance.choice(MODELS), pool="main"),
                QuotaUpdated(
                    **fields, provider="anthropic", product="claude", account=chance.choice(("acct-1", "acct-2")),
                    window="5h", utilisation=chance.choice((0.2, 0.75, 0.85, 0.97)), resets_at=until,
                ),
                BudgetCredited(**fields, tenant_id=chance.choice(("acme", "initech")), pool="main", amount_usd=0.03),
            )
        )  # fmt: skip


def history(seed: int, length: int) -> History:
    """Give a history of a pool with two slots of each model, under two accounts."""
    told = History(seed)
    told.tell(*(slot(f"{model}-{number}", account=f"acct-{number}") for model in MODELS for number in (1, 2)))
    for _ in range(length):
        told.go_on()
    return told


def test_balances_from_movements_are_the_routers(database: str) -> None:
    """After whatever happened, lost leases and failures included."""
    migrate(database)
    kinds, late = Counter[str](), 0
    for seed in range(3):
        told = history(seed, 300)
        kinds.update(one.kind for step in told.steps for one in step.money)
        released = {one.decision_id for step in told.steps for one in step.money if one.kind == "release"}
        late += sum(one.kind == "settle" and one.decision_id in released for step in told.steps for one in step.money)
        write(database, *told.steps, name=f"j-{seed}")
        found = {
            row["tenant_id"]: tuple(
                round(row[f"{name}_usd"] * 1_000_000) for name in ("credited", "available", "reserved", "consumed")
            )
            for row in ask(database, f"SELECT * FROM v_budgets WHERE journal = 'j-{seed}'")
        }
        ledgers = told.router.state.pool("main").ledgers
        assert found == {
            tenant: (row.credited_uusd, row.available_uusd, row.reserved_uusd, row.consumed_uusd)
            for tenant, row in ledgers.items()
        }
    assert set(kinds) == {"credit", "reserve", "settle", "release"}
    assert late


def test_every_refusal_has_the_values_that_the_gate_compared(database: str) -> None:
    """Whatever gate refused a model: the audit holds enough to say why, and what would have changed it."""
    migrate(database)
    reader = make_conninfo(database, options="-c role=slotwise_read")
    seen: Counter[str] = Counter()
    for seed in (7, 8):
        told = history(seed, 200)
        write(database, *told.steps, name=f"j-{seed}")
        asked = {one.task_id for step in told.steps for one in step.decisions if one.outcome in ("routed", "waiting")}
        for task_id, model in itertools.product(sorted(asked)[::6], MODELS):
            found = explain_why_not(reader, task_id, model, told.router.rulebook, pool="main")
            assert found is not None
            answer = found[1]
            seen[answer.gate] += 1
            assert "does not stand in the audit" not in answer.says, (task_id, answer, found[0])
            assert answer.flip or answer.gate == "chosen"
    assert set(seen) >= set(GATES) - {"context", "quota"} | {"busy", "chosen"}
