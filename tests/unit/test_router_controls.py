"""What operators say becomes rows of the journal, field by field, or is refused with a sentence that helps."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from schemas.decision import MoneyMovement
from schemas.events import (
    BudgetCredited,
    FleetControl,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    PolicyActivated,
    QuotaUpdated,
)
from schemas.marks import DrainMark, ExhaustedMark, QuotaRow
from schemas.vocabulary import MicroUsd, Millis, from_millis
from streams.core.policy.rulebook import load_rulebook
from streams.shipped import shipped
from tests.support.builders import START_MS, rulebook, slot, task
from tests.support.router_rig import RouterRig, outcomes

WHOSE: dict[str, Any] = {"control_id": "c", "by": "ops", "at": from_millis(START_MS)}
UNTIL_MS = Millis(START_MS + 60_000)
UNTIL = from_millis(UNTIL_MS)
POOLS = (None, "side")


# Marks.


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_exhausted_is_marked_as_it_was_said(pool: str | None) -> None:
    """By its product, or by a model that is counted under one."""
    for named in ({"product": "codex-cli"}, {"model": "codex"}, {"product": "codex-cli", "model": "codex"}):
        step = RouterRig().hand_in(ModelExhausted(pool=pool, account="acct-1", until=UNTIL, **named, **WHOSE))
        assert step.exhausted == (ExhaustedMark(pool=pool, product="codex-cli", account="acct-1", until_ms=UNTIL_MS),)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("until", "until_ms"), [(None, None), (UNTIL, UNTIL_MS)])
def test_what_is_drained_is_marked_as_it_was_said(pool: str | None, until: str | None, until_ms: Millis | None) -> None:
    """A drain has an end or none."""
    step = RouterRig().hand_in(ModelDrained(pool=pool, model="opus", until=until, **WHOSE))
    assert step.drains == (DrainMark(pool=pool, model="opus", drained=True, until_ms=until_ms),)


@pytest.mark.parametrize("pool", POOLS)
def test_usage_is_kept_as_it_was_reported(pool: str | None) -> None:
    """With its window, its reset, its status and its time; a little more than all of a quota is all of it."""
    told = {"account": "acct-1", "window": "5h", "resets_at": UNTIL, "status": "allowed_warning"}
    step = RouterRig().hand_in(
        QuotaUpdated(pool=pool, provider="anthropic", product="claude", utilisation=1.05, **told, **WHOSE)
    )
    assert step.quotas == (
        QuotaRow(
            pool=pool,
            product="claude",
            account="acct-1",
            window="5h",
            utilisation=1.0,
            resets_at_ms=UNTIL_MS,
            status="allowed_warning",
            at_ms=Millis(START_MS),
        ),
    )


class Restored(NamedTuple):
    """What is named, and which marks it ends."""

    named: dict[str, Any]
    product: str
    models: tuple[str, ...]


CLAUDE = ("haiku", "opus", "sonnet")
RESTORED = {
    "a product": Restored({"product": "claude"}, "claude", CLAUDE),
    "a model": Restored({"model": "sonnet"}, "claude", ("sonnet",)),
    "both": Restored({"model": "sonnet", "product": "claude"}, "claude", ("sonnet",)),
    "one account": Restored({"product": "claude", "account": "acct-1"}, "claude", ()),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("case", RESTORED.values(), ids=RESTORED.keys())
def test_what_is_restored_ends_marks_and_drains_of_whatever_it_names(case: Restored, pool: str | None) -> None:
    """It concerns the pool that it names; a drain concerns all accounts."""
    step = RouterRig().hand_in(ModelRestored(pool=pool, **case.named, **WHOSE))
    assert step.exhausted == (ExhaustedMark(pool=pool, product=case.product, account=case.named.get("account")),)
    assert sorted(step.drains, key=lambda row: row.model) == [
        DrainMark(pool=pool, model=model, drained=False) for model in case.models
    ]


@pytest.mark.parametrize("restored_in", POOLS)
def test_a_drain_ends_where_it_is_restored(restored_in: str | None) -> None:
    """A restore ends it in one pool or in all."""
    rig = RouterRig("haiku-1")
    rig.hand_in(slot("haiku-1", pool="side"), ModelDrained(model="haiku", **WHOSE))
    rig.hand_in(ModelRestored(pool=restored_in, model="haiku", **WHOSE | {"control_id": "c-2"}))
    assert outcomes(rig.hand_in(task("a"))) == {"a": "haiku-1" if restored_in is None else "drained"}
    assert outcomes(rig.hand_in(task("a", pool="side"))) == {"a": "haiku-1"}


def restored(**named: Any) -> ModelRestored:
    """An operator restores it."""
    return ModelRestored(**named, **WHOSE)


REFUSED: dict[str, tuple[FleetControl, str]] = {
    "nothing named": (restored(), "neither product nor model is named; one of the two says what is meant."),
    "an unknown model": (
        restored(model="sonet"),
        "model sonet is not in the catalogue. Did you mean sonnet?",
    ),
    "an unknown product": (
        restored(product="cluade"),
        "product cluade is not in the catalogue. Did you mean claude?",
    ),
    "a product like none": (restored(product="xyz"), "product xyz is not in the catalogue."),
    "two that do not agree": (
        restored(product="claude", model="codex"),
        "model codex is counted under codex-cli, not under claude: name one of them.",
    ),
    "a drain of an unknown model": (
        ModelDrained(model="haiko", **WHOSE),
        "model haiko is not in the catalogue. Did you mean haiku?",
    ),
    "usage of an unknown product": (
        QuotaUpdated(provider="anthropic", product="cluade", window="5h", utilisation=0.5, **WHOSE),
        "product cluade is not in the catalogue. Did you mean claude?",
    ),
    "usage reported of another provider": (
        QuotaUpdated(provider="openai", product="claude", window="5h", utilisation=0.5, **WHOSE),
        "product claude is of provider anthropic in the catalogue, not of openai.",
    ),
}


@pytest.mark.parametrize(("event", "want"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_meant_is_refused_in_a_sentence(event: FleetControl, want: str) -> None:
    """A refused event writes no row."""
    step = RouterRig().hand_in(event)
    assert [one.reason for one in step.rejected] == [want]
    assert (step.exhausted, step.drains, step.quotas, step.controls) == ((), (), (), ())


# Money: each movement is a row of its own, with what moved it.


def moved(kind: Any, usd: float, at_ms: int, **of: str) -> MoneyMovement:
    """A movement of acme's."""
    return MoneyMovement(
        pool="main", tenant_id="acme", kind=kind, amount_uusd=MicroUsd(round(usd * 1e6)), at_ms=Millis(at_ms), **of
    )


def credit(usd: float, control_id: str = "c") -> BudgetCredited:
    """Acme has so much more."""
    return BudgetCredited(pool="main", tenant_id="acme", amount_usd=usd, **WHOSE | {"control_id": control_id})


#: Haiku, at 50 cents a million tokens in and 2.50 dollars out, its prices above 100,000 tokens in.
WORK: dict[str, Any] = {"tenant_id": "acme", "input_tokens": 500_000, "output_tokens": 8_000}
ESTIMATE = 0.27


def test_every_movement_of_money_says_what_moved_it() -> None:
    """A credit its control; what is reserved, spent and given back the decision."""
    rig = RouterRig("haiku-1")
    assert rig.hand_in(credit(2.5)).money == (moved("credit", 2.5, START_MS, control_id="c"),)
    assert rig.hand_in(credit(-0.5, "c-2")).money == (moved("credit", -0.5, START_MS, control_id="c-2"),)
    first = rig.hand_in(task("a", **WORK), after_s=1)
    (of_a,) = (one.decision_id for one in first.decisions)
    assert first.money == (moved("reserve", ESTIMATE, START_MS + 1_000, decision_id=of_a),)
    settled = rig.ends("a", cost_usd=0.25, after_s=1)
    assert settled.money == (moved("settle", 0.25, START_MS + 2_000, decision_id=of_a),)
    second = rig.hand_in(task("b", **WORK))
    (of_b,) = (one.decision_id for one in second.decisions)
    lost = rig.wait(3_600)
    assert lost.money[0] == moved("release", ESTIMATE, second.now_ms + 1_800_000, decision_id=of_b)


@pytest.mark.parametrize(
    ("usd", "want_uusd"), {0.0: 0, 0.0000004: 0, 0.0000005: 1, -0.0000004: 0, -0.0000005: -1}.items()
)
def test_money_is_in_whole_micro_dollars(usd: float, want_uusd: int) -> None:
    """Half of one is a whole one, away from zero."""
    (row,) = RouterRig().hand_in(credit(usd)).ledgers
    assert (row.credited_uusd, row.available_uusd) == (want_uusd, want_uusd)


TOLD: dict[str, tuple[dict[str, Any], float]] = {
    "its cost": ({"cost_usd": 0.5, "input_tokens": 1, "output_tokens": 1}, 0.5),
    "all tokens": ({"input_tokens": 1_000_000, "output_tokens": 100_000}, 0.75),
    "tokens read": ({"input_tokens": 1_000_000}, 0.5 + 0.00256),
    "tokens written": ({"output_tokens": 100_000}, 0.25 + 0.25),
    "nothing": ({}, 0.25 + 0.00256),
}


@pytest.mark.parametrize(("told", "want_usd"), TOLD.values(), ids=TOLD.keys())
def test_a_number_that_the_outcome_leaves_out_is_the_tasks_own_estimate(told: dict[str, Any], want_usd: float) -> None:
    """Of a trivial task that says how much it reads, and not how much it writes: 1,024 tokens at the most."""
    rig = RouterRig("haiku-1")
    rig.hand_in(credit(10.0), task("a", tenant_id="acme", complexity="trivial", input_tokens=500_000))
    step = rig.ends("a", **told)
    (done,) = step.work
    assert done.cost_uusd == round(want_usd * 1e6)
    assert step.ledgers[-1].consumed_uusd == done.cost_uusd


@pytest.mark.parametrize(("complexity", "want_usd"), [("trivial", 0.25 + 0.00256), ("simple", 0.25 + 0.00512)])
def test_without_a_budget_and_a_word_of_its_cost_work_costs_the_estimate(complexity: Any, want_usd: float) -> None:
    """By the length of its class; no tenant is charged."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", tenant_id="acme", complexity=complexity, input_tokens=500_000))
    step = rig.ends("a")
    assert [one.cost_uusd for one in step.work] == [round(want_usd * 1e6)]
    assert (step.ledgers, step.money) == ((), ())


# Activation.

CATALOG, POLICY = shipped("catalog.toml"), shipped("policy.toml")
BOOK = load_rulebook(CATALOG, POLICY)
STRICTER = POLICY.replace("priority_min = 90", "priority_min = 95")
RICHER = CATALOG.replace("quality = 0.28", "quality = 0.29")


def activated(policy_text: str | None = None, catalog_text: str | None = None, **named: Any) -> PolicyActivated:
    """Other rules, by the texts that are sent; those that are not are the ones known."""
    book = load_rulebook(catalog_text or CATALOG, policy_text or POLICY)
    said = {"policy": book.policy_hash, "catalog": book.catalog_hash, **named}
    return PolicyActivated(policy_text=policy_text, catalog_text=catalog_text, **said, **WHOSE)


SENT: dict[str, tuple[str | None, str | None]] = {
    "both": (STRICTER, RICHER),
    "the policy": (STRICTER, None),
    "the catalogue": (None, RICHER),
    "neither": (None, None),
}


def test_a_task_ages_by_a_policy_from_the_step_on_that_activates_it() -> None:
    """For the auditor too: one that waits since then is not before one that by its priority has more points."""
    rig = RouterRig("haiku-1", book=BOOK)
    rig.hand_in(task("runs"), after_s=1)
    faster = POLICY.replace("ageing_s_per_point = 60.0", "ageing_s_per_point = 1.0")
    rig.hand_in(activated(faster), task("first"), after_s=1)
    rig.hand_in(task("urgent", priority=90, at_ms=rig.now_ms + 1_000), after_s=1)
    (decision,) = rig.ends("runs", after_s=1).decisions
    assert (decision.task_id, decision.outcome) == ("urgent", "routed")


@pytest.mark.parametrize(("policy_text", "catalog_text"), SENT.values(), ids=SENT.keys())
def test_a_text_that_is_not_sent_is_the_one_in_use(policy_text: str | None, catalog_text: str | None) -> None:
    """The journal has both in full, once: the control that brought them keeps none."""
    rig = RouterRig("haiku-1", book=BOOK)
    step = rig.hand_in(activated(policy_text, catalog_text))
    assert step.rejected == ()
    assert step.activated is not None
    assert (step.activated.policy_text, step.activated.catalog_text) == (policy_text or POLICY, catalog_text or CATALOG)
    now = rig.hand_in(task())
    assert (now.policy, now.catalog) == (step.activated.policy, step.activated.catalog)
    (control,) = step.controls
    kept = msgspec.json.decode(bytes(control.event))
    assert (kept["control_id"], kept["policy"], kept.get("policy_text"), kept.get("catalog_text")) == (
        "c",
        step.activated.policy,
        None,
        None,
    )


HASH = "0123456789abcdef"
OTHER_TEXT = "{} {} is not the hash of the text that is meant, which is {}: send the text with it."
NOT_ACTIVATED: dict[str, tuple[PolicyActivated, str]] = {
    "for one pool": (activated(pool="main"), "a policy is activated for all pools of a partition: leave pool out."),
    "another policy than is meant": (
        activated(policy=HASH),
        OTHER_TEXT.format("policy", HASH, BOOK.policy_hash),
    ),
    "another catalogue than is meant": (
        activated(catalog=HASH),
        OTHER_TEXT.format("catalog", HASH, BOOK.catalog_hash),
    ),
}


@pytest.mark.parametrize(("event", "want"), NOT_ACTIVATED.values(), ids=NOT_ACTIVATED.keys())
def test_a_policy_that_cannot_be_meant_is_refused_in_a_sentence(event: PolicyActivated, want: str) -> None:
    """The policy in force stays."""
    rig = RouterRig("haiku-1", book=BOOK)
    step = rig.hand_in(event)
    assert [one.reason for one in step.rejected] == [want]
    assert (step.activated, step.controls, rig.hand_in(task()).policy) == (None, (), BOOK.policy_hash)


@pytest.mark.parametrize("texts", [(STRICTER, None), (None, RICHER)], ids=["no catalogue", "no policy"])
def test_a_router_that_knows_no_texts_must_be_sent_both(texts: tuple[str | None, str | None]) -> None:
    """Only a test has such a one: rules that came from no files."""
    step = RouterRig("haiku-1", book=rulebook()).hand_in(activated(*texts))
    assert [one.reason for one in step.rejected] == [
        "policy_text and catalog_text must be sent: this router knows no texts of its own."
    ]


def test_all_mistakes_of_a_text_are_reported_in_one_line() -> None:
    """The reason has a sentence for each mistake."""
    event = msgspec.structs.replace(activated(), policy_text="[premium]\npriority_mim = 3\n[lift]\nquest = 1\n")
    (refused,) = RouterRig(book=BOOK).hand_in(event).rejected
    assert refused.reason == (
        "policy.toml: premium: priority_mim is no known key. Did you mean priority_min? "
        "policy.toml: lift: quest is no known key."
    )


def test_models_in_use_that_a_catalogue_lacks_are_all_named() -> None:
    """The message says what to do."""
    rows = CATALOG.split("[[model]]")
    less = "[[model]]".join(row for row in rows if 'id = "haiku"' not in row and 'id = "glm"' not in row)
    rig = RouterRig("haiku-1", "glm-1", book=BOOK)
    book = load_rulebook(less, POLICY)
    event = PolicyActivated(policy=book.policy_hash, catalog=book.catalog_hash, catalog_text=less, **WHOSE)
    (refused,) = rig.hand_in(event).rejected
    assert refused.reason == (
        "the new catalogue lacks glm, haiku, which slots or tasks of this partition use: "
        "retire those slots, or keep the rows."
    )
