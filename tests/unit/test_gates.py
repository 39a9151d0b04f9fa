"""Every threshold of the gates: what holds just below it, at it and just above it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from schemas.decision import Decision
from schemas.events import BudgetCredited, ModelDrained, ModelExhausted, QuotaUpdated, TaskPending
from schemas.vocabulary import Complexity, Millis, from_millis
from streams.core.policy.case import Candidate, Case
from streams.core.policy.rulebook import Rulebook, RulebookError, load_rulebook
from streams.core.policy.rules.floor import Floor
from streams.shipped import shipped
from tests.support.builders import START_MS, rulebook, slot, task
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes

#: P50 is 10 and P90 is 50, whatever way a percentile is read.
WINDOW = (*(10.0,) * 14, *(50.0,) * 6)
WHOSE: dict[str, Any] = {"by": "ops", "at": from_millis(START_MS)}


def verdicts(decision: Decision) -> dict[str, str]:
    """Give each model's verdict."""
    return {model: verdict["gate"] for model, verdict in json.loads(bytes(decision.alternatives)).items()}


def quota(share: float, *, product: str = "claude", provider: str = "anthropic", **named: Any) -> QuotaUpdated:
    """Give the report that so much of a quota is used."""
    fields = {"control_id": f"q-{share}-{product}", "window": "5h", **WHOSE, **named}
    return QuotaUpdated(provider=provider, product=product, utilisation=share, **fields)


# The degradation curve.

STAY: dict[str, str] = {}
NO_OPUS = {"opus": "quota"}
NO_CLAUDE = {"opus": "quota", "sonnet": "quota", "haiku": "quota"}
CURVE = {
    0.0: (STAY, ()),
    0.6999: (STAY, ()),
    0.70: (STAY, ("watching",)),
    0.7999: (STAY, ("watching",)),
    0.80: (NO_OPUS, ("watching",)),
    0.9499: (NO_OPUS, ("watching",)),
    0.95: (NO_CLAUDE, ("watching",)),
    0.9999: (NO_CLAUDE, ("watching",)),
    1.00: (NO_CLAUDE | {"codex": "quota"}, ("watching",)),
    1.05: (NO_CLAUDE | {"codex": "quota"}, ("watching",)),
}
HOSTED = ("opus-1", "gpt-5-1", "sonnet-1", "codex-1", "haiku-1", "minimax-1", "glm-1", "gemini-flash-1")


@pytest.mark.rule("gate.quota", "quota.curve")
@pytest.mark.parametrize(("share", "want"), CURVE.items(), ids=map(str, CURVE))
def test_the_curve_refuses_from_its_lower_bounds_on(share: float, want: tuple[dict[str, str], tuple[str, ...]]) -> None:
    """Bounds are inclusive; other models have the verdict that they would have without the curve."""
    rig = RouterRig(*HOSTED, "local-1")
    step = rig.hand_in(quota(share), task("a", allow_providers=("google",)))
    (plain,) = RouterRig(*HOSTED, "local-1").hand_in(task("a", allow_providers=("google",))).decisions
    (said,) = step.decisions
    assert verdicts(said) == verdicts(plain)
    assert said.flags == want[1]
    (open_,) = rig.hand_in(task("b")).decisions
    refused = {model: gate for model, gate in verdicts(open_).items() if gate == "quota"}
    assert refused == want[0]
    assert {verdicts(open_)[model] for model in ("gpt-5", "minimax", "glm")} <= {"ok", "chosen"}


@pytest.mark.rule("quota.curve")
@pytest.mark.parametrize("product", ["codex-cli", "openai-api"])
def test_only_the_primary_products_usage_is_on_the_curve(product: str) -> None:
    """The usage of other products refuses nothing in the shipped policy."""
    rig = RouterRig("codex-1", "gpt-5-1")
    (said,) = rig.hand_in(quota(1.0, product=product, provider="openai"), task("a")).decisions
    assert verdicts(said) == {"gpt-5": "ok", "codex": "chosen"}
    assert said.flags == ()


@pytest.mark.rule("quota.curve", "policy.quota")
def test_the_curve_is_data() -> None:
    """The policy may name another product, share and tier."""
    step = {"usage_of": "codex-cli", "from_share": 0.5, "refuse": [{"product": "openai-api", "tier": 3}]}
    rig = RouterRig("codex-1", "gpt-5-1", book=rulebook(quota={"step": [step]}))
    (said,) = rig.hand_in(quota(0.5, product="codex-cli", provider="openai"), task("a", floor_model="gpt-5")).decisions
    assert verdicts(said) == {"gpt-5": "quota", "codex": "floor"}


def test_a_curve_of_unknown_products_is_refused() -> None:
    """With the nearest ones that there are."""
    policy = '[[quota.step]]\nusage_of = "cluade"\nfrom_share = 0.5\nrefuse = [{product = "codx-cli"}]\n'
    with pytest.raises(RulebookError) as refused:
        load_rulebook(shipped("catalog.toml"), policy)
    assert [problem.partition(" is no product ")[2] for problem in refused.value.problems] == [
        "of the catalogue. Did you mean claude?",
        "of the catalogue. Did you mean codex-cli?",
    ]


RESETS = {"before it": (59.999, "quota"), "at it": (60.0, "haiku-1")}


@pytest.mark.rule("gate.quota")
@pytest.mark.parametrize(("after_s", "want"), RESETS.values(), ids=RESETS.keys())
def test_usage_falls_to_0_when_its_window_resets(after_s: float, want: str) -> None:
    """At the reset the usage is 0, not a millisecond earlier."""
    rig = RouterRig("haiku-1")
    rig.hand_in(quota(1.0, resets_at=from_millis(START_MS + 60_000)))
    assert outcomes(rig.hand_in(task("a"), after_s=after_s)) == {"a": want}


# Marks and drains.


@pytest.mark.rule("gate.exhausted")
@pytest.mark.parametrize(("after_s", "want"), {59.999: "exhausted", 60.0: "haiku-1"}.items())
def test_an_exhausted_mark_holds_until_its_moment(after_s: float, want: str) -> None:
    """It clears at `now >= until`."""
    rig = RouterRig("haiku-1")
    until = from_millis(START_MS + 60_000)
    rig.hand_in(ModelExhausted(control_id="c", product="claude", until=until, **WHOSE))
    assert outcomes(rig.hand_in(task("a"), after_s=after_s)) == {"a": want}


@pytest.mark.rule("gate.drained")
@pytest.mark.parametrize(("after_s", "want"), {59.999: "drained", 60.0: "haiku-1"}.items())
def test_a_drain_holds_until_its_moment(after_s: float, want: str) -> None:
    """At its end the drain is over."""
    rig = RouterRig("haiku-1")
    rig.hand_in(ModelDrained(control_id="c", model="haiku", until=from_millis(START_MS + 60_000), **WHOSE))
    assert outcomes(rig.hand_in(task("a"), after_s=after_s)) == {"a": want}


# The premium floor and lift.


class Valued(NamedTuple):
    """A task, where it goes while haiku is busy, and whether it is lifted."""

    task: TaskPending
    want: str
    want_lifted: bool = False


VALUED = {
    "just below P50": Valued(task(ev=9.999), "reserved_for_ev"),
    "P50": Valued(task(ev=10.0), "opus-1"),
    "just above P50": Valued(task(ev=10.001), "opus-1"),
    "just below P90": Valued(task(ev=49.999), "opus-1"),
    "P90": Valued(task(ev=50.0), "opus-1"),
    "just above P90": Valued(task(ev=50.001), "opus-1", want_lifted=True),
    "priority 89": Valued(task(ev=1.0, priority=89), "reserved_for_ev"),
    "priority 90": Valued(task(ev=1.0, priority=90), "opus-1"),
    "priority 91": Valued(task(ev=1.0, priority=91), "opus-1"),
    "quest priority 94": Valued(task(ev=10.0, quest_priority=94), "opus-1"),
    "quest priority 95": Valued(task(ev=10.0, quest_priority=95), "opus-1", want_lifted=True),
    "quest priority 96": Valued(task(ev=10.0, quest_priority=96), "opus-1", want_lifted=True),
    "quest priority 100, EV below P50": Valued(task(ev=9.0, quest_priority=100), "reserved_for_ev", want_lifted=True),
}


@pytest.mark.rule("gate.premium", "lift")
@pytest.mark.parametrize("case", VALUED.values(), ids=VALUED.keys())
def test_the_premium_floor_and_lift_have_sharp_edges(case: Valued) -> None:
    """P50 and P90 themselves are neither low nor lifted."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *WINDOW)
    step = rig.hand_in(case.task)
    assert outcomes(step)["t-1"] == case.want
    assert step.decisions[0].lifted == case.want_lifted


SAMPLES = {4: "opus-1", 5: "reserved_for_ev", 6: "reserved_for_ev"}


@pytest.mark.rule("percentiles")
@pytest.mark.parametrize(("samples", "want"), SAMPLES.items())
def test_the_premium_floor_begins_with_the_fifth_sample(samples: int, want: str) -> None:
    """With fewer samples there is no P50."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *(5.0,) * samples)
    assert outcomes(rig.hand_in(task("unknown"))) == {"unknown": want}


# Floors.

FLOORS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "haiku-1"),
    "a model of tier 1": ({"floor_model": "glm"}, "haiku-1"),
    "a model of tier 2": ({"floor_model": "codex"}, "sonnet-1"),
    "a model of tier 3": ({"floor_model": "gpt-5"}, "opus-1"),
    "trivial": ({"complexity": "trivial"}, "haiku-1"),
    "simple": ({"complexity": "simple"}, "haiku-1"),
    "standard": ({"complexity": "standard"}, "sonnet-1"),
    "complex": ({"complexity": "complex"}, "sonnet-1"),
    "expert": ({"complexity": "expert"}, "opus-1"),
    "the role's": ({"agent_role": "judge", "complexity": "trivial"}, "sonnet-1"),
    "the highest of all, the model's": (
        {"agent_role": "judge", "complexity": "standard", "floor_model": "opus"},
        "opus-1",
    ),
    "the highest of all, the class's": (
        {"agent_role": "judge", "complexity": "expert", "floor_model": "haiku"},
        "opus-1",
    ),
    "the tier is max_tier": ({"floor_model": "sonnet", "max_tier": 2}, "sonnet-1"),
}


@pytest.mark.rule("task.floor", "gate.floor", "policy.floor")
@pytest.mark.parametrize(("told", "want"), FLOORS.values(), ids=FLOORS.keys())
def test_the_highest_floor_holds(told: dict[str, Any], want: str) -> None:
    """Model, role and class each set one; tiers are compared, not models."""
    rig = RouterRig("opus-1", "sonnet-1", "haiku-1", book=rulebook(floor={"by_role": {"judge": "sonnet"}}))
    assert outcomes(rig.hand_in(task("a", **told))) == {"a": want}


def test_tasks_that_differ_by_a_role_or_a_length_are_looked_at_apart() -> None:
    """Tasks that differ in one field have different verdicts, in either order of arrival."""
    rig = RouterRig("opus-1", "haiku-1", "haiku-2", book=rulebook(floor={"by_role": {"judge": "opus"}}))
    step = rig.hand_in(
        task("a"),
        task("b", agent_role="judge", complexity="trivial"),
        task("c", agent_role="clerk", complexity="trivial"),
    )
    assert outcomes(step) == {"a": "haiku-1", "b": "opus-1", "c": "haiku-2"}
    rig = RouterRig("opus-1", "opus-2")
    room = rig.book.models["opus"].context_window - 900
    step = rig.hand_in(*(task(f"{length}", input_tokens=room, output_tokens=length) for length in (600, 700)))
    assert outcomes(step) == {"600": "opus-1", "700": "context"}


def test_a_class_that_the_policy_sets_no_tier_for_has_no_floor() -> None:
    """The task's other floors hold as ever."""
    shipped_book = rulebook()
    book = Rulebook(shipped_book.catalog, replace(shipped_book.policy, complexity_tier_min={"expert": 3}))

    def tiers(asked: TaskPending, escalated_tier: int = 1) -> list[int]:
        case = Case(rulebook=book, task=asked, complexity="trivial", escalated_tier=escalated_tier)
        models = (book.models[model] for model in ("haiku", "sonnet", "opus"))
        return [model.tier for model in models if not Floor().refuses(case, Candidate(model))]

    assert tiers(task()) == [1, 2, 3]
    assert tiers(task(), 2) == [2, 3]
    assert tiers(task(floor_model="opus")) == [3]


# Window, length and lease.

LIMITS: dict[Complexity | None, tuple[int, int]] = {
    None: (8_192, 1_800),
    "trivial": (1_024, 300),
    "simple": (2_048, 600),
    "standard": (8_192, 1_800),
    "complex": (16_384, 3_600),
    "expert": (32_768, 7_200),
}


@pytest.mark.rule("task.max_tokens", "gate.context", "slot.lease")
@pytest.mark.parametrize(("complexity", "want"), LIMITS.items(), ids=map(str, LIMITS))
def test_each_class_has_its_length_its_lease_and_its_share_of_the_window(
    complexity: Complexity | None, want: tuple[int, int]
) -> None:
    """What fits exactly fits; one token more takes one off the answer, and the last 1,024 stay."""
    rig = RouterRig("opus-1", "opus-2", "opus-3")
    window = rig.book.models["opus"].context_window
    (said,) = rig.hand_in(task("fits", complexity=complexity, input_tokens=window - want[0])).decisions
    assert (said.max_tokens, said.lease_expires_at_ms) == (want[0], START_MS + want[1] * 1000)
    (least,) = rig.hand_in(task("least", complexity=complexity, input_tokens=window - 1_024)).decisions
    assert least.max_tokens == 1_024
    assert outcomes(rig.hand_in(task("more", complexity=complexity, input_tokens=window - 1_023))) == {
        "more": "context"
    }


def test_a_class_that_the_policy_says_nothing_of_has_the_default_length_and_lease() -> None:
    """An empty policy knows no classes' own."""
    rig = RouterRig("haiku-1", book=load_rulebook(shipped("catalog.toml"), ""))
    (said,) = rig.hand_in(task("a", complexity="expert")).decisions
    assert (said.max_tokens, said.lease_expires_at_ms) == (LIMITS[None][0], START_MS + LIMITS[None][1] * 1000)


# Credit.


@pytest.mark.rule("gate.credit")
@pytest.mark.parametrize(("short_uusd", "want"), {0: "haiku-1", 1: "credit", -1: "haiku-1"}.items())
def test_credit_covers_the_estimate_to_the_micro_dollar(short_uusd: int, want: str) -> None:
    """Exactly enough is enough."""
    rig = RouterRig("haiku-1")
    told: dict[str, Any] = {"tenant_id": "acme", "input_tokens": 123_457, "output_tokens": 4_321}
    model = rig.book.models["haiku"]
    cost = model.tariff.estimate_uusd(123_457, 4_321, Millis(START_MS))
    assert cost is not None
    credited = BudgetCredited(
        control_id="c", pool="main", tenant_id="acme", amount_usd=(cost - short_uusd) / 1e6, **WHOSE
    )
    assert outcomes(rig.hand_in(credited, task("a", **told))) == {"a": want}


@pytest.mark.parametrize(("short_uusd", "want"), {0: "haiku-1", 1: "credit"}.items())
def test_credit_covers_the_length_of_the_class(short_uusd: int, want: str) -> None:
    """A trivial task of unknown length writes 1,024 tokens at the most, and no more must be paid for."""
    rig = RouterRig("haiku-1")
    cost = rig.book.models["haiku"].tariff.estimate_uusd(100_000, 1_024, Millis(START_MS))
    assert cost is not None
    credited = BudgetCredited(
        control_id="c", pool="main", tenant_id="acme", amount_usd=(cost - short_uusd) / 1e6, **WHOSE
    )
    trivial = task("a", tenant_id="acme", complexity="trivial", input_tokens=100_000)
    assert outcomes(rig.hand_in(credited, trivial)) == {"a": want}


@pytest.mark.parametrize(("usd", "want"), {1.9: "credit", 2.1: "opus-1"}.items())
def test_credit_covers_a_long_answer(usd: float, want: str) -> None:
    """A hundred thousand tokens at 20 dollars a million, though tasks that say nothing write far less."""
    credited = BudgetCredited(control_id="c", pool="main", tenant_id="acme", amount_usd=usd, **WHOSE)
    assert outcomes(RouterRig("opus-1").hand_in(credited, task("a", tenant_id="acme", output_tokens=100_000))) == {
        "a": want
    }


# Patience.


@pytest.mark.rule("service.patience")
@pytest.mark.parametrize(("waited_ms", "want"), {5_999_999: "quest", 6_000_000: "patient"}.items())
def test_patience_begins_at_150_points(waited_ms: int, want: str) -> None:
    """50 and a hundred minutes, to the millisecond; from there on lifted tasks go first no more."""
    rig = RouterRig()
    now_ms = START_MS + waited_ms
    rig.hand_in(task("patient"))
    rig.hand_in(task("quest", priority=100, quest_priority=95, at_ms=now_ms), slot(), after_s=waited_ms / 1000)
    assert rig.runs_on(want) == "haiku-1"
