"""The reason of a decision is a sentence with the values that decided: each sentence, word for word."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from schemas.decision import Advice
from schemas.events import Affinity, Event, ModelDrained, ModelExhausted, QuotaUpdated, TaskCancelled, TaskPending
from schemas.vocabulary import from_millis
from streams.core.policy.numbers import apart
from streams.core.policy.rulebook import Rulebook
from streams.core.step import choosing
from tests.support.builders import START_MS, inputs, rulebook, slot, task
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig

WHOSE: dict[str, Any] = {"by": "ops", "at": from_millis(START_MS)}
SOON = from_millis(START_MS + 60_000)
#: P50 is 10 and P90 is 50, whatever way a percentile is read.
WINDOW = (*(10.0,) * 14, *(50.0,) * 6)


def exhausted(product: str) -> ModelExhausted:
    """A product is used up for a minute."""
    return ModelExhausted(control_id=f"e-{product}", product=product, until=SOON, **WHOSE)


def drained(model: str, until: str | None = None) -> ModelDrained:
    """A model is out of service."""
    return ModelDrained(control_id=f"d-{model}", model=model, until=until, **WHOSE)


def used(share: float) -> QuotaUpdated:
    """So much of claude is used."""
    return QuotaUpdated(control_id="q", provider="anthropic", product="claude", window="5h", utilisation=share, **WHOSE)


class Case(NamedTuple):
    """A fleet, what happens before a task comes, and what is said of the task."""

    slots: tuple[str, ...]
    task: TaskPending
    want: str
    before: tuple[Event, ...] = ()
    book: Rulebook | None = None
    evs: tuple[float, ...] = ()


SENTENCES = {
    "the cheapest class": Case(("haiku-1",), task(), "Lowest capable tier; haiku-1 is its only available slot."),
    "requirements, by their names": Case(
        ("haiku-1",),
        task(requires={"safety": 2, "coding": 3}),
        "Lowest capable tier for coding>=3, safety>=2; haiku-1 is its only available slot.",
    ),
    "lifted by a quest": Case(
        ("opus-1",),
        task(quest_priority=95, requires={"coding": 8}),
        "Lifted: quest priority 95; opus-1 is the only available slot of tier 3.",
    ),
    "lifted by its EV": Case(
        ("opus-1",),
        task(ev=60.5, quest_priority=94),
        "Lifted: EV 60.5 is above P90 (50); opus-1 is the only available slot of tier 3.",
        evs=WINDOW,
    ),
    "the best score": Case(
        ("haiku-1",),
        task(strategy="objective"),
        "Best score among available models; haiku-1 is its only available slot.",
    ),
    "a preference": Case(
        ("haiku-1",),
        task(strategy="preference", task_type="review"),
        "haiku is number 2 on the list of review; haiku-1 is its only available slot.",
        book=rulebook(strategy={"preference": {"review": ["sonnet", "haiku"]}}),
    ),
    "exhausted": Case(("haiku-1",), task(), f"claude is exhausted until {SOON}.", (exhausted("claude"),)),
    "exhausted for two models is said once": Case(
        ("haiku-1", "sonnet-1"), task(), f"claude is exhausted until {SOON}.", (exhausted("claude"),)
    ),
    "drained for good": Case(("haiku-1",), task(), "haiku is drained.", (drained("haiku"),)),
    "drained for a while": Case(("haiku-1",), task(), f"haiku is drained until {SOON}.", (drained("haiku", SOON),)),
    "each for its own reason, in the order of the gates": Case(
        ("haiku-1", "codex-1", "sonnet-1"),
        task(),
        f"codex-cli is exhausted until {SOON}. sonnet is drained. haiku is drained until {SOON}.",
        (drained("sonnet"), exhausted("codex-cli"), drained("haiku", SOON)),
    ),
    "one condition beside another gate": Case(
        ("haiku-1", "opus-1"), task(max_tier=1), "haiku is drained.", (drained("haiku"), drained("opus", SOON))
    ),
    "a quota": Case(
        ("opus-1",), task(), "opus is held back: claude is at 83% of its quota; opus stops at 80%.", (used(0.83),)
    ),
    "more than the whole quota is the whole": Case(
        ("haiku-1",), task(), "haiku is held back: claude is at 100% of its quota; haiku stops at 95%.", (used(1.05),)
    ),
    "what may do it is busy": Case(
        ("sonnet-1", "haiku-1"),
        task(),
        "Every slot that may do it is busy: sonnet, haiku.",
        (task("first"), task("second")),
    ),
    "a floor above everything": Case(
        ("haiku-1",),
        task(floor_model="opus"),
        "Every capable model of the fleet is below its floor: floor_model opus asks for tier 3.",
    ),
    "boundaries": Case(
        ("haiku-1",),
        task(deny_providers=("anthropic",)),
        "No capable model of the fleet is allowed. The task denies anthropic.",
    ),
    "what is lacking, of what lacks it": Case(
        ("haiku-1", "sonnet-1"),
        task(requires={"coding": 10, "safety": 7}),
        "No model of the fleet is good enough for coding>=10, safety>=7 (sonnet: coding 8 < 10; haiku: coding 5 < 10).",
    ),
}


@pytest.mark.parametrize("case", SENTENCES.values(), ids=SENTENCES.keys())
def test_a_decision_says_what_was_looked_at(case: Case) -> None:
    """In one voice, and for the person who asks why."""
    rig = RouterRig(*case.slots, book=case.book)
    if case.evs:
        percentiles(rig, *case.evs)
    if case.before:
        rig.hand_in(*case.before)
    (said,) = rig.hand_in(case.task).decisions
    assert said.reason == case.want


def test_what_holds_for_one_account_is_said_of_it() -> None:
    """Both accounts are refused, each by its own mark or by its own usage."""
    later = from_millis(START_MS + 90_000)
    rig = RouterRig()
    rig.hand_in(slot("haiku-1", account="acct-1"), slot("haiku-2", account="acct-2"))
    rig.hand_in(
        ModelExhausted(control_id="c-1", product="claude", account="acct-1", until=SOON, **WHOSE),
        ModelExhausted(control_id="c-2", product="claude", account="acct-2", until=later, **WHOSE),
    )
    (said,) = rig.hand_in(task("a")).decisions
    assert said.reason == f"claude of acct-1 is exhausted until {SOON}. claude of acct-2 is exhausted until {later}."
    rig = RouterRig()
    rig.hand_in(slot("haiku-1", account="acct-1"), slot("haiku-2", account="acct-2"))
    for account, share in (("acct-1", 0.96), ("acct-2", 0.99)):
        told: dict[str, Any] = {"provider": "anthropic", "product": "claude", "window": "5h", "utilisation": share}
        rig.hand_in(QuotaUpdated(control_id=account, account=account, **told, **WHOSE))
    (said,) = rig.hand_in(task("a")).decisions
    assert said.reason == (
        "haiku is held back: claude of acct-1 is at 96% of its quota; haiku stops at 95%. "
        "haiku is held back: claude of acct-2 is at 99% of its quota; haiku stops at 95%."
    )


def test_three_sentences_of_rules_are_enough() -> None:
    """Each once, in the order of the catalogue."""
    fleet = ("haiku", "sonnet", "codex", "opus", "gpt-5")
    rig = RouterRig(*(f"{model}-1" for model in fleet))
    said = {model: f"mine: Not {model}." for model in fleet} | {"gpt-5": "mine: Not opus."}
    (item,) = inputs(task("a"), now_ms=rig.now_ms)
    (found,) = rig.take([replace(item, advice=Advice(refused=said))]).decisions
    assert found.reason == (
        "No capable model of the fleet is allowed. "
        "Plug-in mine: Not opus. Plug-in mine: Not sonnet. Plug-in mine: Not codex."
    )


def test_models_are_numbered_in_the_list_that_they_stand_in() -> None:
    """First the policy's, then what a plug-in asked for, each counted from 1."""
    book = rulebook(strategy={"preference": {"review": ["sonnet", "opus"]}, "default": "mine"})
    for free, want in {
        "opus-1": "opus is number 2 on the list of review; opus-1 is its only available slot.",
        "haiku-1": "haiku is number 2 on the list of plug-in mine; haiku-1 is its only available slot.",
    }.items():
        rig = RouterRig(free, book=book)
        (item,) = inputs(task("a", strategy="preference", task_type="review"), now_ms=rig.now_ms)
        advice = Advice(strategy="mine", ranking=("codex", "haiku"))
        (said,) = rig.take([replace(item, advice=advice)]).decisions
        assert said.reason == want


@pytest.mark.parametrize(
    ("ev", "want"),
    [
        (1.5, "opus is kept for tasks above P50 (10); this one has EV 1.5."),
        (None, "opus is kept for tasks above P50 (10); its EV is unknown."),
    ],
)
def test_a_kept_model_says_for_whom(ev: float | None, want: str) -> None:
    """By its EV or that it has none, and with the P50 of the moment."""
    rig = RouterRig("opus-1", "haiku-1")
    percentiles(rig, *WINDOW)
    rig.hand_in(task("in-the-way"))
    (said,) = rig.hand_in(task("low", ev=ev)).decisions
    assert said.reason == want


def test_of_two_kept_models_that_are_free_the_first_in_the_catalogue_is_named() -> None:
    """One is enough to say why."""
    rig = RouterRig("gpt-5-1", "opus-1", "haiku-1")
    percentiles(rig, *WINDOW)
    rig.hand_in(task("in-the-way"))
    (said,) = rig.hand_in(task("low", ev=1.0)).decisions
    assert said.reason == "opus is kept for tasks above P50 (10); this one has EV 1."


def test_of_two_kept_models_the_free_one_is_named() -> None:
    """The other is busy anyway."""
    rig = RouterRig("gpt-5-1", "opus-1", "haiku-1")
    percentiles(rig, *WINDOW)
    rig.hand_in(task("worthy", ev=10.0, deny_providers=("openai",), floor_model="opus"), task("in-the-way"))
    assert rig.runs_on("worthy") == "opus-1"
    (said,) = rig.hand_in(task("low", ev=1.0)).decisions
    assert said.reason == "gpt-5 is kept for tasks above P50 (10); this one has EV 1."


def test_a_swapped_slot_has_the_swap_as_its_reason() -> None:
    """And nothing of the choice, which did not last."""
    rig = RouterRig()
    step = rig.hand_in(
        task("quest", ev=1.0, quest_priority=95), task("worthy", ev=9.0), slot("opus-1"), slot("haiku-1")
    )
    swapped = "Swapped within the round, where the better tier goes to the higher EV: "
    assert {one.task_id: one.reason for one in step.decisions} == {
        "quest": f"{swapped}haiku-1 instead of opus-1.",
        "worthy": f"{swapped}opus-1 instead of haiku-1.",
    }


# What decided between slots.

CELLS = (slot("haiku-1", account="a"), slot("haiku-2", account="b"), slot("glm-1", account="b"))


def busy(rig: RouterRig, slot_id: str, s: float) -> None:
    """The slot works for so long, and is free."""
    rig.hand_in(task(f"on-{slot_id}", affinity=Affinity(slot_id=slot_id)))
    rig.ends(f"on-{slot_id}", after_s=s)


@pytest.mark.rule("record.reason")
def test_context_on_a_slot_is_named_though_the_slot_is_the_busier_one() -> None:
    """What decided was not its use."""
    rig = RouterRig("haiku-1", "haiku-2")
    busy(rig, "haiku-1", 100)
    (said,) = rig.hand_in(task(affinity=Affinity(slot_id="haiku-1"))).decisions
    assert (said.reason, said.utilisation) == ("Lowest capable tier; haiku-1 has its context.", 0.333333)


@pytest.mark.rule("record.reason")
def test_context_under_an_account_is_named_where_it_leaves_other_slots_out() -> None:
    """Of several under it something else decided; where every slot is of that account, the account did not."""
    rig = RouterRig()
    rig.hand_in(*CELLS)
    (said,) = rig.hand_in(task("a", affinity=Affinity(account="b"))).decisions
    assert said.reason == (
        "Lowest capable tier; under b, which has its context, haiku-2 has a better score than glm-1 (1, not 0.3), used "
        "alike and of one cost."
    )
    (said,) = rig.hand_in(task("b", affinity=Affinity(account="a"))).decisions
    assert said.reason == "Lowest capable tier; haiku-1 is under a, which has its context."
    (said,) = rig.hand_in(task("c", affinity=Affinity(account="b"))).decisions
    assert said.reason == "Lowest capable tier; glm-1 is its only available slot."


@pytest.mark.rule("record.reason")
def test_the_least_used_slot_is_named_with_its_use() -> None:
    """Of one model, and of several, beside the next one."""
    rig = RouterRig("haiku-1", "haiku-2", "opus-1")
    busy(rig, "haiku-2", 30)
    busy(rig, "haiku-1", 60)
    (said,) = rig.hand_in(task()).decisions
    assert said.reason == "Lowest capable tier; haiku-2 is less used than haiku-1 (10% busy, not 20%)."
    rig = RouterRig("haiku-1", "glm-1")
    busy(rig, "haiku-1", 30)
    (said,) = rig.hand_in(task()).decisions
    assert said.reason == "Lowest capable tier; glm-1 is less used than haiku-1 (0% busy, not 10%)."


@pytest.mark.rule("record.reason")
def test_of_slots_used_alike_the_least_used_model_is_named() -> None:
    """Other slots of the model count for that."""
    rig = RouterRig("haiku-1", "haiku-2", "glm-1")
    rig.hand_in(task("long", affinity=Affinity(slot_id="haiku-1")))
    (said,) = rig.hand_in(task(), after_s=75).decisions
    assert said.reason == (
        "Lowest capable tier; glm-1 is of a less used model than haiku-2 (glm 0% busy, haiku 12.5%)."
    )


@pytest.mark.rule("record.reason")
def test_of_models_used_alike_the_cheaper_one_is_named_then_the_better_score_and_then_the_id() -> None:
    """With both costs, or both scores. Between accounts of one model nothing but the id is left."""
    (said,) = RouterRig("glm-1", "haiku-1").hand_in(task("a", input_tokens=2_000, output_tokens=500)).decisions
    assert said.reason == (
        "Lowest capable tier; haiku-1 is cheaper than glm-1 ($0.000450, not $0.000550), both used alike."
    )
    (said,) = RouterRig("glm-1", "haiku-1").hand_in(task("a", output_tokens=500)).decisions
    assert said.reason == (
        "Lowest capable tier; haiku-1 has a better score than glm-1 (1, not 0.3), used alike and of one cost."
    )
    rig = RouterRig()
    rig.hand_in(*CELLS[:2])
    (said,) = rig.hand_in(task("a")).decisions
    assert said.reason == "Lowest capable tier; haiku-1 is the first by id of equal slots."


@pytest.mark.rule("record.reason")
def test_where_something_cheaper_is_busy_the_sentence_says_that_it_is_about_what_is_available() -> None:
    """The same with a lift: the tier that was to be had."""
    rig = RouterRig("haiku-1", "sonnet-1", "sonnet-2", "opus-1")
    rig.hand_in(task("in-the-way"))
    (said,) = rig.hand_in(task("a", requires={"coding": 5})).decisions
    assert said.reason == "Lowest capable tier for coding>=5 available now; sonnet-1 is the first by id of equal slots."
    rig.hand_in(task("b", floor_model="opus"))
    (said,) = rig.hand_in(task("c", quest_priority=100)).decisions
    assert said.reason == "Lifted: quest priority 100; sonnet-2 is the only available slot of tier 2."


def test_numbers_are_short_and_never_so_short_that_they_look_alike() -> None:
    """An EV just above P90 is shown with the digits that make the difference."""
    assert apart(957.48, 356.7) == ("957", "357")
    assert apart(3.25, 41.0) == ("3.25", "41")
    assert apart(357.04, 356.96) == ("357.04", "356.96")
    assert apart(1_234_567.0, 0.004) == ("1,234,567", "0.004")
    assert apart(2.0, 2.0) == ("2", "2")


# Ends without a slot.

DEADLINE = from_millis(START_MS + 30_000)


def test_a_task_whose_deadline_passes_says_which() -> None:
    """On arrival, while it waits, and when its slot is lost."""
    want = f"Its deadline {DEADLINE} passed before a slot was free."
    rig = RouterRig("haiku-1")
    rig.hand_in(task("runs", deadline_ms=START_MS + 30_000), task("waits", deadline_ms=START_MS + 30_000))
    (waited,) = rig.wait(30).decisions
    (late,) = rig.hand_in(task("late", deadline_ms=START_MS + 30_000)).decisions
    (lost,) = rig.hand_in(slot("haiku-1", at_ms=START_MS + 31_000), after_s=1).decisions
    assert [(one.task_id, one.outcome, one.reason) for one in (waited, late, lost)] == [
        (task_id, "expired", want) for task_id in ("waits", "late", "runs")
    ]


def test_a_cancelled_task_says_by_whom() -> None:
    """Also where the cancel came first."""
    rig = RouterRig()
    early = TaskCancelled(pool="main", task_id="early", **WHOSE, control_id="c-1")
    later = TaskCancelled(pool="main", task_id="later", **WHOSE, control_id="c-2")
    rig.hand_in(early, task("later"))
    assert {one.task_id: one.reason for one in rig.hand_in(task("early"), later).decisions} == {
        "early": "Cancelled by a cancel that came before it.",
        "later": "Cancelled by ops.",
    }


GIVEN_UP: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "dropped": ({"on_failure": "drop"}, {"error_class": "bug"}, "Reported as failed, and on_failure is drop: bug."),
    "dropped, without a reason": (
        {"on_failure": "drop"},
        {},
        "Reported as failed, and on_failure is drop: no error class given.",
    ),
    "at the highest tier": (
        {"on_failure": "escalate"},
        {},
        "Given up after a failure on opus, from where it cannot escalate; see task.pending.dlq.",
    ),
    "too often": ({}, {}, "Given up after 1 failed attempt, the last: failed; see task.pending.dlq."),
}


@pytest.mark.parametrize(("told", "outcome", "want"), GIVEN_UP.values(), ids=GIVEN_UP.keys())
def test_work_that_failed_for_good_says_how(told: dict[str, Any], outcome: dict[str, Any], want: str) -> None:
    """With values of the outcome and the policy."""
    rig = RouterRig("opus-1", book=rulebook(attempts={"failures_max": 1}))
    rig.hand_in(task("a", **told))
    (said,) = rig.ends("a", "failure", **outcome).decisions
    assert said.reason == want


def test_where_the_policy_fails_the_decision_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was done instead."""

    def fails(*_given: Any, **_named: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(choosing, "tier_mask", fails)
    (said,) = RouterRig("haiku-1").hand_in(task()).decisions
    assert said.reason == "The policy failed on this task; took the first capable model in catalogue order: haiku-1."
