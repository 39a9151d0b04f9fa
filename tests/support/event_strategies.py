"""What can happen to a fleet: for properties that let anything happen in any order.

A *making* makes an event from where the router stands when the event is handed in. Each example leaves some features
out (`OFF`), so that the others come more often than if all were always there.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.decision import Advice, SlotRow
from schemas.event_id import EventId
from schemas.events import (
    BreakerOpened,
    BudgetCredited,
    Control,
    Event,
    LaneRestarted,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    PolicyActivated,
    PolicyProposed,
    QuotaUpdated,
    SlotFreed,
    TaskPending,
    Tick,
)
from schemas.input import Content, Misplaced, Unreadable
from schemas.vocabulary import from_millis
from streams.core.policy.rulebook import RulebookError, load_rulebook
from streams.shipped import shipped
from tests.support.builders import cancelled, freed, retired, retried, slot, task, tick, working
from tests.support.router_rig import RouterRig

FLEET = (
    *("opus-1", "opus-2", "gpt-5-1", "sonnet-1", "sonnet-2", "codex-1"),
    *("haiku-1", "haiku-2", "glm-1", "gemini-flash-1", "local-1"),
)
FLEETS = st.sets(st.sampled_from(FLEET), min_size=4).map(sorted) | st.sampled_from(
    [
        [],
        ["opus-1", "opus-2", "haiku-1"],
        ["gpt-5-1", "opus-1", "sonnet-1", "glm-1"],
        ["local-1", "sonnet-1", "opus-1"],
        ["gpt-5-1", "local-1", "opus-1"],
        ["haiku-1", "haiku-2", "opus-1", "sonnet-1", "sonnet-2"],
    ]
)
POOLS = ("main",) * 9 + ("side",)
FEATURES = ("accounts", "activation", "advice", "limits", "marks", "money", "quotas", "shape", "strategies", "times")
OFF = st.sets(st.sampled_from(FEATURES), max_size=8).map(frozenset)


class Stage:
    """Where it happens: a rig, the names used so far, and what is left out."""

    def __init__(self, rig: RouterRig, off: Iterable[str] = (), texts: Iterable[tuple[str, str]] = ()) -> None:
        self.rig, self.off, self.names = rig, frozenset(off), 0
        #: Catalogue and policy texts that may be activated.
        self.texts = list(texts)
        self._advice: dict[int, Advice] = {}
        self._event_ids: dict[int, EventId] = {}
        rig.advise = lambda event: self._advice.get(id(event))
        rig.identify = lambda event: self._event_ids.get(id(event))

    @property
    def now_ms(self) -> int:
        """The present moment."""
        return self.rig.now_ms

    def leased(self) -> list[SlotRow]:
        """The slots that hold a task."""
        rows = [row for pool in self.rig.router.state.pools.values() for row in pool.slots.values()]
        return sorted((row for row in rows if row.state == "leased"), key=lambda row: (row.pool, row.slot_id))

    def renewable(self) -> list[SlotRow]:
        """The slots that hold a task, and those that lost it."""
        rows = [row for pool in self.rig.router.state.pools.values() for row in pool.slots.values()]
        return sorted((row for row in rows if row.state != "free"), key=lambda row: (row.pool, row.slot_id))

    def reportable(self) -> list[tuple[str, str, int, str]]:
        """Work whose lease ended without a report: pool, slot, lease and task."""
        pools = self.rig.router.state.pools.values()
        rows = [row for pool in pools for some in (pool.slots, pool.gone) for row in some.values()]
        return sorted((row.pool, row.slot_id, row.lease, row.unreported.task.task_id) for row in rows if row.unreported)

    def identified(self, event: SlotFreed, event_id: EventId | None) -> SlotFreed:
        """The report, under this identity."""
        if event_id is not None:
            self._event_ids[id(event)] = event_id
        return event

    def name(self, ago: int) -> str:
        """The id of a task: a new one, or one of before."""
        if not ago:
            self.names += 1
        return self.named(ago)

    def named(self, ago: int) -> str:
        """The id of the task named so many tasks ago; -1: the one that comes next."""
        return f"t{max(1, self.names - ago)}"

    def arrives(self, event: TaskPending, advice: Advice | None) -> TaskPending:
        """The task, of which plug-ins say this."""
        if advice is not None:
            self._advice[id(event)] = advice
        return event


Making = Callable[[Stage], Content]


def evenly(*kinds: st.SearchStrategy[Making]) -> st.SearchStrategy[Making]:
    """One of these, each as often as the others; `one_of` would count the parts of those that are unions."""
    return st.sampled_from(range(len(kinds))).flatmap(lambda place: kinds[place])


# Tasks.

EVS = st.sampled_from([None, -3.0, 0.0, 1.0, 2.0, 2.5, 5.0, 7.0, 8.0, 9.0, 40.0]) | st.floats(-10, 100)
PROVIDERS = st.sampled_from([("anthropic",), ("openai",), ("google", "anthropic")])
ON_FAILURE = st.sampled_from(["retry", "escalate", "escalate", "drop"])
TENANTS = st.sampled_from(["acme", "acme", "bob"])
AFFINITIES = st.sampled_from(
    [{"slot_id": "haiku-2"}, {"account": "a1"}, {"slot_id": "opus-2", "account": "a2"}, {"account": "a2"}]
)
#: What a task may say beside its EV and priority, by the feature it is part of: a few of these.
QUIRKS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "limits": {
        "requires": st.sampled_from(
            [{"coding": 4}, {"coding": 6}, {"coding": 9}, {"safety": 9}, {"reasoning": 10, "speed": 3}]
        ),
        "floor_model": st.sampled_from(["haiku", "sonnet", "codex", "opus", "oopus"]),
        "max_tier": st.sampled_from([1, 2, 3]),
        "allow_providers": PROVIDERS,
        "deny_providers": PROVIDERS,
        "local_only": st.just(True),
        "input_tokens": st.sampled_from([1_000, 30_000, 250_000, 271_000, 915_000, 995_000, 2_000_000]),
        "output_tokens": st.sampled_from([0, 100, 5_000, 100_000, 900_000]),
    },
    "shape": {
        "quest_priority": st.sampled_from([94, 95, 100]),
        "importance": st.sampled_from([0.0, 1.0, 3.0]),
        "tractability": st.just(2.0),
        "impact": st.just(0.5),
        "estimated_cost": st.sampled_from([0.0, 0.25, 1.0]),
        "complexity": st.sampled_from(["trivial", "simple", "standard", "complex", "expert"]),
        "agent_role": st.sampled_from(["coder", "linter", "architect", "orchestrator", "background", "stranger"]),
        "has_revision_history": st.just(True),
        "output_length_target": st.sampled_from([1_500, 1_501, 2_500, 2_501, 20_000]),
        "context_richness": st.sampled_from([0.49, 0.5, 0.9]),
        "requires_reasoning": st.just(True),
        "on_failure": ON_FAILURE,
        "attempt": st.just(4),
        "ref": st.just("../issues/17"),
        "labels": st.just({"team": "docs"}),
        "payload": st.sampled_from(['{"file":"README.md"}', '"a longer one than some policies allow"']),
    },
    "strategies": {
        "strategy": st.sampled_from(["cheapest_capable", "objective", "objective", "preference", "preference"]),
        "both": st.sampled_from(
            [
                {"strategy": "preference", "task_type": task_type}
                for task_type in ("code", "analysis", "writing", "bulk", "offline")
            ]
        ),
        "objective": st.sampled_from(["cost_speed", "balanced", "quality"]),
        "profile": st.sampled_from(["fast", "strong"]),
        "lane": st.sampled_from(["night", "vip", "none"]),
        "task_type": st.sampled_from(["code", "analysis", "writing", "bulk", "offline", "docs", "security", "odd"]),
        "affinity": AFFINITIES,
        "lease_s": st.sampled_from([1.0, 90.0, 100_000.0]),
    },
    "money": {
        "tenant_id": TENANTS,
        "both": st.builds(
            lambda tenant, tokens: {"tenant_id": tenant, "output_tokens": tokens}, TENANTS, st.integers(0, 9_000)
        ),
    },
    "times": {
        "deadline_ms": st.sampled_from([-5_000, 0, 1, 60_000, 500_000, 500_000, 4_000_000, 4_000_000]),
        "not_before_ms": st.sampled_from([-5_000, 0, 1, 60_000, 500_000]),
        "at_ms": st.sampled_from([-200_000_000_000, -7_200_000, -3_600_000, -61_000, -1, 5_000]),
    },
    "advice": {
        "advice": st.sampled_from(
            [
                Advice(refused={"haiku": "no: never"}),
                Advice(refused={"opus": "no", "glm": "no"}),
                Advice(ev=30.0),
                Advice(strategy="mine", ranking=("sonnet", "haiku")),
                Advice(strategy="mine", ranking=("glm", "opus", "oopus"), ev=2.0),
            ]
        )
    },
}
QUIRK = st.sampled_from(sorted(QUIRKS)).flatmap(
    lambda feature: st.one_of(
        [st.tuples(st.just(feature), st.just(name), values) for name, values in QUIRKS[feature].items()]
    )
)
TASKS = st.builds(
    lambda ev, priority, *more: [("", "ev", ev), ("", "priority", priority), *itertools.chain(*more)],
    EVS,
    st.sampled_from([0, 49, 50, 50, 51, 89, 90, 100]),
    st.lists(TENANTS.map(lambda tenant: ("money", "tenant_id", tenant)), max_size=1),
    # Where a task has context decides seldom, so many tasks have some.
    st.lists(AFFINITIES.map(lambda near: ("strategies", "affinity", near)), max_size=1),
    st.lists(QUIRK, max_size=4),
)
TIMES = ("at_ms", "deadline_ms", "not_before_ms")
Quirks = list[tuple[str, str, Any]]


def pending(number: int, quirks: Quirks, pool: str) -> Making:
    """A task; its times are relative to now."""

    def make(stage: Stage) -> Event:
        fields = {name: said for feature, name, said in quirks if feature not in stage.off}
        advice = fields.pop("advice", None)
        fields |= fields.pop("both", {})
        timed = {"at_ms": stage.now_ms} | {name: stage.now_ms + ms for name, ms in fields.items() if name in TIMES}
        plain = {name: said for name, said in fields.items() if name not in TIMES}
        made = task(stage.name(number), pool=pool, **timed)
        return stage.arrives(msgspec.convert(msgspec.to_builtins(made) | plain, TaskPending), advice)

    return make


# Slots.

ACCOUNTS = st.sampled_from([None, "a1", "a1", "a2"])
STATUS = st.sampled_from(["success", "success", "failure", "failure", "cancelled", None])
COSTS = st.sampled_from(
    [
        {},
        {},
        {"cost_usd": 0.0},
        {"cost_usd": 0.3},
        {"input_tokens": 2_000},
        {"input_tokens": 10, "output_tokens": 90_000},
        {"input_tokens": 30_000, "cached_input_tokens": 29_000, "output_tokens": 500, "reasoning_tokens": 400},
        {"input_tokens": 10, "cached_input_tokens": 500},
        {"reasoning_tokens": 90},
        {"error_class": "rate_limited"},
        {"error_class": "overloaded", "cost_usd": 0.1, "retry_at": "2026-11-21T12:00:00.000Z"},
        {"error_class": "quota", "retry_at": "2027-01-01T00:00:00.000Z"},
    ]
)


def announced(
    slot_id: str,
    model: str | None,
    account: str | None,
    pool: str,
    at_ms: int,
    event_id: EventId | None = None,
    ttl_s: float | None = None,
) -> Making:
    """A slot says that it is there, or there again; its clock may be ahead, or behind."""

    def make(stage: Stage) -> Event:
        whose = {} if account is None or "accounts" in stage.off else {"account": account}
        event = slot(slot_id, model, pool=pool, at_ms=stage.now_ms + at_ms, **whose)
        event = replace(event, ttl_s=ttl_s)
        return stage.identified(event, event_id)

    return make


def given_back(pick: int, status: str | None, older: int, other: int, model: bool, costs: dict[str, Any]) -> Making:
    """One of the slots is given back: rightly, or under another lease, or with another task's outcome."""

    def make(stage: Stage) -> Event:
        leased = stage.leased()
        if not leased:
            return freed("haiku-1", 1, at_ms=stage.now_ms)
        row = leased[pick % len(leased)]
        task_id = None if status is None else "t-other" if other == 1 else row.task_id
        named = {"model": row.model} if model else {}
        lease = max(0, row.lease - older)
        place = {"pool": row.pool, "at_ms": stage.now_ms}
        return freed(row.slot_id, lease, task_id, status or "", outcome=costs, **place, **named)

    return make


def given_back_late(pick: int, status: str | None, older: int, other: int, costs: dict[str, Any]) -> Making:
    """The end of a lease that is over comes after all: rightly, or under another lease, or with another's outcome."""

    def make(stage: Stage) -> Event:
        reportable = stage.reportable()
        if not reportable:
            return tick()
        pool, slot_id, lease, of = reportable[pick % len(reportable)]
        task_id = None if status is None else "t-other" if other == 1 else of
        return freed(
            slot_id, max(0, lease - older), task_id, status or "", outcome=costs, pool=pool, at_ms=stage.now_ms
        )

    return make


def works_on(pick: int, older: int, at_ms: int, event_id: EventId | None) -> Making:
    """A slot renews its lease: rightly, or another one, or once too often."""

    def make(stage: Stage) -> Event:
        renewable = stage.renewable()
        if not renewable:
            return working("haiku-1", 1, at_ms=stage.now_ms)
        row = renewable[pick % len(renewable)]
        event = working(row.slot_id, max(0, row.lease - older), pool=row.pool, at_ms=stage.now_ms + at_ms)
        return stage.identified(event, event_id)

    return make


def stays_idle(slot_id: str, pool: str, at_ms: int) -> Making:
    """A slot says that it still is free."""

    def make(stage: Stage) -> Event:
        return replace(slot(slot_id, pool=pool, at_ms=stage.now_ms + at_ms), state="idle")

    return make


def leaves(slot_id: str, pool: str, at_ms: int) -> Making:
    """A slot's dispatcher says that the slot takes no more work."""

    def make(stage: Stage) -> Event:
        return replace(slot(slot_id, pool=pool, at_ms=stage.now_ms + at_ms), state="leaving")

    return make


def restarted(pick: int) -> Making:
    """A slot that holds a task says that it is there: it has forgotten the task."""

    def make(stage: Stage) -> Event:
        leased = stage.leased()
        if not leased:
            return tick()
        row = leased[pick % len(leased)]
        return slot(row.slot_id, row.model, pool=row.pool, at_ms=stage.now_ms + 1)

    return make


def unwanted(pick: int) -> Making:
    """The producer no longer wants a task that runs."""

    def make(stage: Stage) -> Event:
        leased = stage.leased()
        if not leased:
            return tick()
        row = leased[pick % len(leased)]
        return cancelled(str(row.task_id), pool=row.pool)

    return make


# Operators.

_numbers = itertools.count(1)
ENDS_MS = st.sampled_from([-1_000, 0, 1, 60_000, 60_000, 500_000, 500_000, 3_700_000])
PRODUCTS = st.sampled_from(["claude", "claude", "codex-cli", "openai-api", "gemini-api", "glm", "local"])
MODELS = st.sampled_from(["opus", "sonnet", "haiku", "codex", "gpt-5", "glm", "gemini-flash", "local"])
SCOPES = st.sampled_from([None, None, "main", "main", "side", "later"])


def control(kind: type[Control], feature: str, fields: dict[str, Any], pool: str | None) -> Making:
    """An operator's event; `until_ms` and the like are relative to now."""

    def make(stage: Stage) -> Event:
        if feature in stage.off:
            return tick(at_ms=stage.now_ms)
        said = {name: value for name, value in fields.items() if value is not None}
        for name in ("until", "resets_at", "at"):
            if f"{name}_ms" in said:
                said[name] = from_millis(stage.now_ms + said.pop(f"{name}_ms"))
        place = {"pool": pool} if pool is not None else {}
        common = {"control_id": f"h-{next(_numbers)}", "at": from_millis(stage.now_ms), "by": "ops"}
        event: Event = msgspec.convert({"kind": kind.__struct_config__.tag, **common, **place, **said}, kind)  # type: ignore[assignment]  # one of the kinds
        return event

    return make


def controls(kind: type[Control], feature: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Making]:
    """Such events of an operator."""
    pool = fields.pop("pool", SCOPES)
    return st.builds(control, st.just(kind), st.just(feature), st.fixed_dictionaries(fields), pool)


NONE = st.none()
SOME_ACCOUNT = st.sampled_from([None, None, "a1", "a2"])
MARKS = st.one_of(
    controls(ModelExhausted, "marks", product=st.just("claude"), until_ms=st.sampled_from([60_000, 500_000])),
    controls(ModelExhausted, "marks", product=PRODUCTS, account=SOME_ACCOUNT, until_ms=ENDS_MS),
    controls(ModelExhausted, "marks", model=MODELS, account=SOME_ACCOUNT, until_ms=ENDS_MS),
    controls(ModelDrained, "marks", model=MODELS, until_ms=st.none() | ENDS_MS),
    controls(ModelRestored, "marks", product=PRODUCTS, account=SOME_ACCOUNT),
    controls(ModelRestored, "marks", model=MODELS, account=SOME_ACCOUNT),
)
SHARES = st.sampled_from([0.0, 0.5, 0.7, 0.79, 0.8, 0.9, 0.95, 0.99, 1.0, 1.05])
QUOTAS = st.one_of(
    [
        controls(
            QuotaUpdated, "quotas", provider=st.just(provider), product=st.just(product), account=SOME_ACCOUNT,
            window=st.sampled_from(["5h", "7d"]), utilisation=SHARES, resets_at_ms=NONE | ENDS_MS,
            at_ms=st.sampled_from([0, 0, 0, 0, -1, -60_000, -17_999_000, -18_000_000, 5_000]),
        )
        for provider, product in (("anthropic", "claude"), ("anthropic", "claude"), ("zhipu", "glm"))
    ]
)  # fmt: skip
CREDITS = controls(
    BudgetCredited, "money", pool=st.sampled_from(["main", "main", "main", "side"]), tenant_id=TENANTS,
    amount_usd=st.sampled_from([0.002, 0.004096, 0.02, 0.08192, 0.16384, 0.2, 0.3, 0.5, 1.0, 5.0, -0.05, -0.2, -4.0]),
)  # fmt: skip
OPENED = controls(
    BreakerOpened, "money", tenant_id=NONE | TENANTS, lane=NONE | NONE | NONE | st.just("night"), until_ms=ENDS_MS
)
MONEY = evenly(CREDITS, CREDITS, CREDITS, OPENED)
MISTAKES = st.one_of(
    controls(ModelExhausted, "marks", product=st.just("clode"), until_ms=ENDS_MS),
    controls(ModelExhausted, "marks", until_ms=ENDS_MS),
    controls(ModelExhausted, "marks", model=st.just("opus"), product=st.just("glm"), until_ms=ENDS_MS),
    controls(ModelDrained, "marks", model=st.just("oopus")),
    controls(ModelRestored, "marks", model=st.just("oopus")),
    controls(
        QuotaUpdated, "quotas", provider=st.just("openai"), product=st.just("claude"),
        window=st.just("5h"), utilisation=st.just(1.0),
    ),
    controls(LaneRestarted, "strategies", lane=st.just("night")),
    controls(
        PolicyProposed, "strategies", policy=st.just("9f2c41aa"), catalog=st.just("b07d4e11"),
        step=st.just("replay"), outcome=st.just("done"),
    ),
    controls(BreakerOpened, "money", tenant_id=st.just("acme"), lane=st.just("night"), until_ms=ENDS_MS),
)  # fmt: skip

# Rules.

LANES = {
    "night": {"strategy": "objective", "objective": "cost_speed", "profile": "fast", "exclude_models": ["opus"]},
    "vip": {"strategy": "preference", "allow_models": ["opus", "sonnet", "haiku", "local"]},
}
#: Ways to change the shipped rules: {model or section: changed keys}.
VARIANTS: dict[str, tuple[dict[str, dict[str, Any] | None], dict[str, dict[str, Any]]]] = {
    "shipped": ({}, {}),
    "odd": (
        {"glm": {"input_usd_per_mtok": None}, "haiku": {"speed_tps": None}, "codex": {"quality": None}},
        {
            "strategy": {"default": "objective"},
            "score": {"bias": {"sonnet": 0.1}},
            "boundary": {"exclude_models": ["gpt-5"]},
        },
    ),
    "strict": (
        {"codex": {"tier": 1}},
        {
            "premium": {"priority_min": 50},
            "complexity_tier_min": {"trivial": 2},
            "leases": {"renewals_max": 1, "renewals_by_complexity_max": {"trivial": 0}},
            "service": {
                "patience_points": 101,
                "ageing_s_per_point": 30.0,
                "at_behind_max_s": 3_600.0,
                "payload_bytes_max": 30,
            },
            "floor": {"by_role": {"linter": "opus", "stranger": "sonnet"}},
        },
    ),
    # Prices that change every few minutes, with the length of the prompt, and with each request.
    "priced": (
        {
            "haiku": {
                "price_steps": None,
                "price_hours": [
                    {"from": "10:01", "to": "10:02", "input_usd_per_mtok": 9.0},
                    {"from": "10:02", "to": "10:05", "output_usd_per_mtok": 30.0, "weekdays": [6]},
                    {"from": "10:09", "to": "10:00", "input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0},
                ],
            },
            "sonnet": {
                "reasoning_usd_per_mtok": 15.0,
                "price_steps": [
                    {"above_input_tokens": 999, "input_usd_per_mtok": 0.5, "cache_read_usd_per_mtok": 0.1},
                    {"above_input_tokens": 29_999, "output_usd_per_mtok": 40.0},
                ],
            },
            "glm": {"request_usd": 0.003, "input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0},
            "codex": {
                "input_usd_per_mtok": None,
                "price_hours": [{"from": "10:03", "to": "10:20", "input_usd_per_mtok": 1.0}],
            },
        },
        {"strategy": {"default": "objective"}},
    ),
    # Caps that a few tasks use up.
    "capped": (
        {"haiku": {"input_usd_per_mtok": 5.0}, "codex": {"output_usd_per_mtok": None}},
        {
            "breaker": {
                "premium_share": 0.9,
                "limit": [
                    {"of": "tenant", "usd_per_hour": 0.06},
                    {"of": "tenant", "name": "bob", "usd_per_hour": 0.3},
                    {"of": "lane", "name": "night", "usd_per_hour": 0.02},
                    {"of": "pool", "usd_per_hour": 0.9},
                ],
            }
        },
    ),
    "preference": ({}, {"strategy": {"default": "preference"}, "service": {"patience_points": 110}}),
    "plugged": (
        {},
        {
            "plugins": {"strategies": ["mine"]},
            "strategy": {"default": "mine"},
            "quota": {
                "unknown_reset_s": 60.0,
                "step": [
                    {"usage_of": "glm", "from_share": 0.5, "refuse": [{"product": "gemini-api"}], "flag": "watching"},
                    {
                        "usage_of": "claude",
                        "from_share": 0.8,
                        "refuse": [{"product": "glm"}, {"product": "claude", "tier": 1}],
                    },
                ],
            },
        },
    ),
    # Two more that wait for an emergency, one of them dear; only `local` is on a list.
    "fallbacks": ({"glm": {"roles": ["local emergency"]}, "gpt-5": {"roles": ["local emergency"]}}, {}),
    "small": ({"opus": None, "codex": None}, {"score": {"tie_share": 0.2}}),
    "broken": ({}, {"service": {"patience_point": 1}}),
}


@cache
def texts(variant: str, announcements_max: int, back_off_s: float) -> tuple[str, str]:
    """Catalogue and policy of that variant, as text."""
    catalog, policy = tomllib.loads(shipped("catalog.toml")), tomllib.loads(shipped("policy.toml"))
    models, sections = VARIANTS[variant]
    policy["lane"] = LANES
    policy["floor"]["by_role"] = {"architect": "opus", "linter": "sonnet"}
    policy["service"] |= {"announcements_max": announcements_max, "announcements_per_s": 10.0}
    policy["attempts"] |= {"failures_max": 3, "back_off_s": back_off_s}
    for section, changed in sections.items():
        policy[section] |= changed
    rows = [
        row | (models.get(row["id"], {}) or {}) for row in catalog["model"] if models.get(row["id"], {}) is not None
    ]
    if variant == "small":
        policy["strategy"]["preference"] = {"code": ["sonnet"]}
        policy["floor"]["by_role"] = {"coder": "sonnet"}
        policy["lane"] = {}
        policy["quota"]["step"] = policy["quota"]["step"][:3]
    return "\n".join(f"[[model]]\n{_toml(row)}" for row in rows), "\n".join(
        f"{name} = {_value(section)}" for name, section in policy.items()
    )


def _toml(row: dict[str, Any]) -> str:
    return "\n".join(f"{_value(name)} = {_value(value)}" for name, value in row.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_value(said)}" for name, said in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(said) for said in value) + "]"
    return json.dumps(value) if isinstance(value, bool | int | float | str) else value.isoformat()


@cache
def hashes(catalog: str, policy: str) -> tuple[str, str]:
    """The content hashes of these texts."""
    book = load_rulebook(catalog, policy)
    return book.catalog_hash, book.policy_hash


def activated(pick: int, mistake: str) -> Making:
    """Other rules decide from here on; or they do not, because the event is wrong."""

    def make(stage: Stage) -> Content:
        catalog, policy = stage.texts[pick % len(stage.texts)]
        known = {
            name: text for name, text in (("catalog_text", catalog), ("policy_text", policy)) if mistake != "no texts"
        }
        try:
            catalog_hash, policy_hash = hashes(catalog, policy)
        except RulebookError:
            catalog_hash = policy_hash = "0" * 16
        if mistake == "hash":
            policy_hash = "f" * 16
        said = {"catalog": catalog_hash, "policy": policy_hash, **known}
        return control(PolicyActivated, "activation", said, "main" if mistake == "pool" else None)(stage)

    return make


ACTIVATIONS = st.builds(activated, st.integers(0, 9), st.sampled_from(["", "", "", "", "", "no texts", "hash", "pool"]))

# All of it.


def again(pick: int, *, order: bool = False) -> Making:
    """An input of before is delivered again; only an operator's `order`, which is rare among all the others."""

    def make(stage: Stage) -> Content:
        seen = [
            item.event
            for batch in reversed(stage.rig.batches)
            for item in batch
            if not isinstance(item.event, PolicyActivated)
            and (not order or (isinstance(item.event, Control) and not isinstance(item.event, Tick)))
        ]
        return seen[pick % len(seen)] if seen else tick()

    return make


#: How long ago a task was named; mostly it is a new one.
NUMBERS = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 8, 20])
POOL = st.sampled_from(POOLS)
PENDS = st.builds(pending, NUMBERS, TASKS, POOL)
EVENT_IDS = st.sampled_from([None, None, None, EventId("/one", "1"), EventId("/one", "2"), EventId("/two", "1")])
AT_MS = st.sampled_from([0, 0, 0, 0, -1_000, 1, 60, 30_000, -7_200_000])
#: Few slots ask for the heartbeat rule.
TTL_S = st.sampled_from([None] * 7 + [60.0, 400.0])
SLOTS = st.builds(announced, st.sampled_from(FLEET), st.none(), ACCOUNTS, POOL, AT_MS, EVENT_IDS, TTL_S)
RENEWALS = evenly(
    st.builds(works_on, st.integers(0, 9), st.just(0), st.sampled_from([0, 0, 0, 1]), st.none()),
    st.builds(works_on, st.integers(0, 9), st.sampled_from([0, 0, 1, -1]), AT_MS, EVENT_IDS),
)
LATE = st.builds(given_back_late, st.integers(0, 9), STATUS, st.sampled_from([0, 0, 0, 1]), st.integers(0, 4), COSTS)
FREES = st.builds(given_back, st.integers(0, 9), STATUS, st.just(0), st.integers(0, 4), st.booleans(), COSTS)
RESTARTS = st.builds(restarted, st.integers(0, 9))
OTHER = evenly(
    st.builds(given_back, st.integers(0, 9), STATUS, st.sampled_from([-1, 1, 2]), st.just(0), st.booleans(), COSTS),
    st.builds(
        announced,
        st.sampled_from(FLEET),
        st.sampled_from(["opus", "haiku", "sonnet", "oopus"]),
        ACCOUNTS,
        POOL,
        st.just(0),
    ),
    st.builds(lambda name, pool: lambda _: freed(name, 3, pool=pool), st.sampled_from(FLEET), POOL),
    st.builds(lambda name, pool: lambda _: retired(name, pool=pool), st.sampled_from(FLEET), POOL),
    st.builds(lambda number, pool: lambda stage: cancelled(stage.named(number), pool=pool), st.integers(-1, 12), POOL),
    st.builds(unwanted, st.integers(0, 9)),
    st.builds(lambda number, pool: lambda stage: retried(stage.named(number), pool=pool), st.integers(-1, 12), POOL),
    st.builds(again, st.integers(0, 500)),
    st.builds(again, st.integers(0, 30)),
    st.builds(again, st.integers(0, 30), order=st.just(value=True)),
    RESTARTS,
    st.builds(stays_idle, st.sampled_from(FLEET), POOL, AT_MS),
    st.builds(leaves, st.sampled_from(FLEET), POOL, AT_MS),
    st.just(lambda _: tick()),
    st.just(lambda _: Unreadable(reason="Not JSON.")),
    st.just(lambda _: Misplaced(home=3)),
    MISTAKES,
)
MAKINGS = evenly(PENDS, PENDS, PENDS, SLOTS, FREES, FREES, LATE, RENEWALS, MARKS, QUOTAS, MONEY, OTHER, OTHER)
PAUSES_MS = st.sampled_from([0, 0, 0, 0, 1, 700, 5_000, 61_000])
