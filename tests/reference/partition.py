"""All pools of a partition, and what is said to all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from schemas.events import (
    BreakerOpened,
    BudgetCredited,
    LaneRestarted,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    PolicyActivated,
    PolicyProposed,
    QuotaUpdated,
    SlotFreed,
    SlotRetired,
    TaskCancelled,
    TaskPending,
    TaskRetried,
    Tick,
)
from schemas.input import Input, Misplaced, Unreadable
from schemas.vocabulary import to_millis
from tests.reference.conditions import Conditions
from tests.reference.pool import ReferencePool
from tests.reference.rules import Rules


class ReferencePartition:
    """All pools of a partition."""

    def __init__(self, catalog: str, policy: str, hashes: Mapping[str, str] | None = None) -> None:
        self._texts = (catalog, policy)
        #: The content hash of every text that may be activated.
        self._hashes = hashes or {}
        self.rules = _rules(catalog, policy)
        self.conditions = Conditions()
        self.pools: dict[str, ReferencePool] = {}
        self._controls: set[str] = set()
        self.rejected = 0
        self.now_ms = 0

    def pool(self, name: str) -> ReferencePool:
        """The pool of that name."""
        if name not in self.pools:
            self.pools[name] = ReferencePool(name, self.rules, self.conditions)
        return self.pools[name]

    def next_due_ms(self) -> int | None:
        """When the next thing happens without any input."""
        return min((at_ms for pool in self.pools.values() for at_ms in pool.next_ms(self.now_ms)), default=None)

    def remember(self, batch: list[Input], also: Iterable[str] = ()) -> list[str]:
        """What the inputs do before anything is decided; the pools they concern, and those looked at anyway."""
        touched: dict[str, None] = dict.fromkeys(also)
        self.rejected = 0
        for pool in self.pools.values():
            pool.ends, pool.ended = [], {}
            pool.before = dict(pool.slots)
        for item in batch:
            for pool in self.pools.values():
                if pool.pass_time(item.now_ms, self.now_ms):
                    touched[pool.name] = None
            self.now_ms = item.now_ms
            self.rejected += not self._takes(item, touched)
        for name in touched:
            self.pool(name).look_at_evs(self.now_ms)
        for pool in self.pools.values():
            pool.look(self.now_ms)
        return list(touched)

    def _takes(self, item: Input, touched: dict[str, None]) -> bool:
        """Do what the event says; whether it could be taken."""
        event = item.event
        match event:
            case Unreadable():
                return False
            case Tick() | Misplaced():
                return True
            case TaskPending() | SlotFreed():
                touched[event.pool] = None
                pool = self.pool(event.pool)
                if isinstance(event, SlotFreed):
                    return pool.report(event, item.event_id, item.now_ms)
                return pool.pend(event, item.advice, item.now_ms)
        if event.control_id in self._controls:
            return True
        taken = True
        match event:
            case TaskCancelled():
                self.pool(event.pool).cancel(event.task_id, item.now_ms)
            case TaskRetried():
                taken = self.pool(event.pool).retry(event.task_id)
            case SlotRetired():
                self.pool(event.pool).retire(event.slot_id)
            case BudgetCredited():
                self.pool(event.pool).credit(event)
            case PolicyActivated():
                taken = self._activate(event)
            case ModelExhausted() | ModelRestored() | ModelDrained() | QuotaUpdated() | BreakerOpened():
                taken = self._condition(event, item.now_ms)
        # Whom an operator speaks of is looked at, even if nothing comes of it.
        if not isinstance(event, LaneRestarted | PolicyProposed) and (taken or not isinstance(event, PolicyActivated)):
            touched |= dict.fromkeys([event.pool] if event.pool is not None else self.pools)
        if taken:
            self._controls.add(event.control_id)
        return taken

    def _condition(
        self, event: ModelExhausted | ModelRestored | ModelDrained | QuotaUpdated | BreakerOpened, now_ms: int
    ) -> bool:
        conditions, rules = self.conditions, self.rules
        match event:
            case BreakerOpened():
                named = [("tenant", event.tenant_id), ("lane", event.lane)]
                caps = [(of, name) for of, name in named if name is not None]
                if len(caps) > 1 or (not caps and event.pool is None):
                    return False
                of, name = caps[0] if caps else ("pool", None)
                capped = [(limit["of"], limit.get("name")) for limit in rules.section("breaker").get("limit", [])]
                if (of, None) not in capped and (of, name or event.pool) not in capped:
                    return False
                conditions.open(event.pool, of, name, to_millis(event.until))
            case ModelDrained():
                if event.model not in rules.model:
                    return False
                conditions.drain(event.pool, event.model, to_millis(event.until) if event.until else None)
            case QuotaUpdated():
                if rules.products.get(event.product) != event.provider:
                    return False
                key = (event.product, event.account, event.window)
                at_ms = min(to_millis(event.at), now_ms)
                unknown_ms = at_ms + round(rules.section("quota")["unknown_reset_s"] * 1000)
                until_ms = to_millis(event.resets_at) if event.resets_at else unknown_ms
                conditions.use(event.pool, key, event.utilisation, until_ms, at_ms)
            case ModelExhausted() | ModelRestored():
                product = event.product
                if event.model in rules.model:
                    product = rules.model[event.model]["product"]
                if event.model not in (None, *rules.model) or product is None or product not in rules.products:
                    return False
                if event.product not in (None, product):
                    return False
                if isinstance(event, ModelExhausted):
                    conditions.exhaust(event.pool, product, event.account, to_millis(event.until))
                else:
                    of_product = [model for model in rules.model if rules.model[model]["product"] == product]
                    models = of_product if event.product is not None else [event.model or ""]
                    conditions.restore(event.pool, product, event.account, models)
        return True

    def _activate(self, event: PolicyActivated) -> bool:
        catalog, policy = event.catalog_text or self._texts[0], event.policy_text or self._texts[1]
        if event.pool is not None or (self._hashes.get(catalog), self._hashes.get(policy)) != (
            event.catalog,
            event.policy,
        ):
            return False
        rules = _rules(catalog, policy)
        for pool in self.pools.values():
            wanted = [slot.model for slot in pool.slots.values()]
            wanted += [task.event.floor_model for task in pool.tasks.values() if task.event.floor_model is not None]
            if any(model not in rules.model for model in wanted):
                return False
        self.rules, self._texts = rules, (catalog, policy)
        for pool in self.pools.values():
            pool.rules = rules
        return True


@cache
def _rules(catalog: str, policy: str) -> Rules:
    return Rules(catalog, policy)
