"""Why a model did not get a task, gate by gate: the reason, and the smallest change that would have opened the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from msgspec.structs import replace

from schemas.events import ModelDrained, ModelExhausted, ModelRestored, QuotaUpdated
from schemas.vocabulary import Millis, Verdict, from_millis
from streams.core.policy.catalog import Catalog
from streams.core.policy.rulebook import Rulebook
from streams.views.explain import MEANINGS
from streams.views.recorded import Recorded, marks_of
from streams.views.why_not import WhyNot, why_not
from tests.support.builders import START_MS, rulebook, task

if TYPE_CHECKING:
    from streams.core.step.controls import MarkingControl

HOUR_MS = 3_600_000
SHIPPED = rulebook()


def ask(
    model: str,
    gate: str,
    *said: MarkingControl,
    rules: Rulebook = SHIPPED,
    available_uusd: int | None = None,
    ruled_out: dict[str, str] | None = None,
    others: dict[str, dict[str, Any]] | None = None,
    decision: dict[str, Any] | None = None,
    known: bool = True,
    **asked: Any,
) -> WhyNot:
    """Ask about a model with that verdict; `decision` are columns of the row, `asked` what the task said."""
    alternatives = {"haiku": {"gate": "busy"}, model: {"gate": gate}} | (others or {})
    row = {
        "pool": "main", "outcome": "waiting", "reason_code": "capable_busy", "strategy": "cheapest_capable",
        "objective": "balanced", "complexity": None, "lane": None, "tenant_id": None, "attempt": 1, "priority": 50,
        "ev": None, "p50": None, "p90": None, "chosen_model": None, "chosen_slot_id": None,
        "policy": rules.policy_hash, "catalog": rules.catalog_hash,
        "alternatives": [{"model": name, **verdict} for name, verdict in alternatives.items()], **(decision or {}),
    }  # fmt: skip
    recorded = Recorded(
        decision=row,
        decided_ms=Millis(START_MS),
        task=task(**{name: row[name] for name in ("priority", "lane", "tenant_id", "complexity")} | asked),
        is_known=known,
        ruled_out=ruled_out or {},
        marks=marks_of(((Millis(START_MS - HOUR_MS), event) for event in said), "main", rules),
        available_uusd=available_uusd,
        rulebook=rules,
    )
    return why_not(model, recorded)


def _control(**fields: Any) -> dict[str, Any]:
    return {"control_id": "c-1", "at": from_millis(START_MS - HOUR_MS), "by": "ops", **fields}


def exhausted(**fields: Any) -> ModelExhausted:
    """Give a mark that ends an hour after the decision, unless another `until` is said."""
    return ModelExhausted(**_control(**({"until": from_millis(START_MS + HOUR_MS)} | fields)))


def used(share: float, **fields: Any) -> QuotaUpdated:
    """Give the usage of claude's five hours."""
    usage = {"provider": "anthropic", "product": "claude", "window": "5h", "utilisation": share}
    return QuotaUpdated(**_control(**(usage | fields)))


def test_capability_names_the_ratings_and_the_bars() -> None:
    """Each bar that is above the rating, and to what it would have to fall."""
    found = ask("glm", "capability", requires={"coding": 8, "safety": 3, "reasoning": 5})
    assert found.says == "glm is not good enough: coding 3 < 8, reasoning 4 < 5."
    assert "requires.coding to 3 (now 8), requires.reasoning to 4 (now 5)" in found.flip


def test_context_names_how_many_tokens_are_too_many() -> None:
    """With the shortest answer's tokens left out of the window, so many may go in; and no more than the model takes."""
    found = ask("local", "context", input_tokens=32_000, output_tokens=2_000)
    assert found.says == "32,000 tokens in and 1,024 out do not fit its window of 32,768."
    assert found.flip == "Send at most 31,744 tokens in: 256 fewer."
    found = ask("codex", "context", input_tokens=300_000, output_tokens=2_000)
    assert found.says == "300,000 tokens in are more than the 272,000 that it takes."
    assert found.flip == "Send at most 272,000 tokens in: 28,000 fewer."


CASES_OF_BOUNDARIES: dict[str, tuple[dict[str, Any], str]] = {
    "local only": ({"local_only": True}, "Send the task without local_only."),
    "not among the providers allowed": (
        {"allow_providers": ("google",)},
        "Add anthropic to the task's allow_providers.",
    ),
    "a provider denied": ({"deny_providers": ("anthropic",)}, "Take anthropic out of the task's deny_providers."),
    "above the highest tier": ({"max_tier": 2}, "Raise max_tier to 3."),
    "excluded by an operator": (
        {"rules": rulebook(boundary={"exclude_models": ["opus"]})},
        "Take opus out of boundary.exclude_models in the policy.",
    ),
    "refused by a rule of one's own": (
        {"ruled_out": {"opus": "no_opus: Not at night."}},
        "Change what that rule looks at.",
    ),
    "two of them": (
        {"max_tier": 1, "deny_providers": ("anthropic",)},
        "Take anthropic out of the task's deny_providers. And raise max_tier to 3.",
    ),
}


@pytest.mark.parametrize(("named", "want"), CASES_OF_BOUNDARIES.values(), ids=CASES_OF_BOUNDARIES.keys())
def test_boundary_names_the_field(named: dict[str, Any], want: str) -> None:
    """Set by the task, by an operator or by a plug-in."""
    assert ask("opus", "boundary", **named).flip == want


def test_boundary_names_the_emergency_model() -> None:
    """It is closed while anything else is admissible."""
    found = ask("local", "boundary")
    assert found.says == "local is the fallback for emergencies, and another model was admissible."
    assert "local_only" in found.flip


def test_floor_names_what_asks_for_the_tier() -> None:
    """The task's floor model and its class, where both are above."""
    found = ask("haiku", "floor", floor_model="sonnet", decision={"complexity": "expert"})
    assert "floor_model sonnet asks for tier 2, class expert asks for tier 3" in found.says
    assert found.flip == "Name a lower floor_model; and send the task with a complexity below expert."


@pytest.mark.rule("amend.46")
def test_a_bar_that_gave_way_to_credit_is_named_as_it_was_then() -> None:
    """One model got past the gate below the bar of the class: for the one below that the lower bar counts."""
    below = {"sonnet": {"gate": "busy"}, "opus": {"gate": "credit"}}
    decision = {"complexity": "expert", "tenant_id": "acme"}
    found = ask("haiku", "floor", decision=decision, others=below, available_uusd=5_000)
    assert "class expert, which gave way to credit, asks for tier 2" in found.says
    found = ask("haiku", "floor", decision=decision, others={"opus": {"gate": "credit"}}, available_uusd=5_000)
    assert "class expert asks for tier 3" in found.says


def test_floor_names_an_escalation() -> None:
    """Nothing the task said is above the model; a failed attempt is."""
    found = ask("haiku", "floor", decision={"attempt": 2})
    assert "an attempt that failed and was escalated asks for tier 2" in found.says


def test_exhausted_names_until_when_and_the_command() -> None:
    """The mark that ends first is the one to wait for."""
    later = exhausted(product="codex-cli", account="acct-2", until=from_millis(START_MS + 2 * HOUR_MS))
    found = ask("codex", "exhausted", exhausted(product="codex-cli", account="acct-1"), later)
    assert found.says == (
        "codex-cli of acct-1 is exhausted until 2026-11-21T11:00:00.000Z. "
        "codex-cli of acct-2 is exhausted until 2026-11-21T12:00:00.000Z."
    )
    assert found.flip == "Wait until 2026-11-21T11:00:00.000Z, or end it now: slotwise restore codex-cli"


def test_a_mark_that_was_ended_says_nothing() -> None:
    """The last event counts, and only in its pool."""
    restored = ModelRestored(**_control(product="codex-cli"))
    elsewhere = ModelDrained(**_control(model="codex", pool="other"))
    found = ask("codex", "exhausted", exhausted(product="codex-cli"), restored, elsewhere)
    assert found.says == "The gate exhausted refused it; what it looked at does not stand in the audit."
    assert found.then == ()


def test_drained_names_the_command() -> None:
    """With its end, if it has one."""
    assert ask("opus", "drained", ModelDrained(**_control(model="opus"))).flip == (
        "Put it back into service: slotwise restore opus"
    )
    for_a_while = ModelDrained(**_control(model="opus", until=from_millis(START_MS + HOUR_MS)))
    assert ask("opus", "drained", for_a_while).flip.startswith("Wait until 2026-11-21T11:00:00.000Z, or put it back")


def test_quota_names_the_usage_below_which_it_opens() -> None:
    """The premium tier is spared from 80 %, whatever step refuses it now; the window's reset, and the command."""
    found = ask("opus", "quota", used(0.96, account="acct-1", resets_at=from_millis(START_MS + HOUR_MS)))
    assert found.says == "opus is held back: claude of acct-1 is at 96% of its quota; opus stops at 80%."
    assert found.flip == (
        "A usage of claude below 80%; that window resets at 2026-11-21T11:00:00.000Z; "
        "or end what was reported: slotwise restore claude"
    )


def test_premium_names_the_ev_and_the_priority() -> None:
    """What lies at P50, or the priority from which the premium floor does not apply."""
    found = ask("opus", "premium", decision={"p50": 41.0, "ev": 3.2})
    assert found.says == "opus is kept for tasks above P50 (41); this one has EV 3.2."
    assert (
        found.flip
        == "An EV of 41 or more (now 3.2), a priority of 90 or more (now 50), or 150 points of priority and waiting."
    )


def test_credit_names_how_much_is_missing() -> None:
    """To the millionth in words, to the next cent in the command."""
    found = ask(
        "opus", "credit", available_uusd=5_000, decision={"tenant_id": "acme"}, input_tokens=1_000, output_tokens=500
    )
    assert found.says == "opus would cost about $0.014000, and acme has $0.005000 of credit left."
    assert found.flip == "$0.009000 more credit: slotwise credit acme 0.01 --pool main"


def test_busy_is_to_be_waited_for() -> None:
    """Every gate let it through."""
    assert ask("opus", "busy").flip == "Wait until a slot of opus comes free, or start another one in main."


CASES_OF_PREFERENCE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a higher tier": (
        "opus",
        {"p90": 88.5},
        "floor_model = opus: haiku is of a lower tier, 1, or an EV above P90 (88.5)",
    ),
    "the same tier, as an earlier version recorded it": ("glm", {}, "does not say which of them decided."),
    "a lower score": ("opus", {"reason_code": "objective"}, "0.250000 more score"),
    "behind in the list": ("opus", {"reason_code": "preference"}, "Put opus before haiku in the list"),
}


@pytest.mark.parametrize(("model", "named", "want"), CASES_OF_PREFERENCE.values(), ids=CASES_OF_PREFERENCE.keys())
def test_an_admissible_model_that_was_not_chosen_is_explained_by_the_strategy(
    model: str, named: dict[str, Any], want: str
) -> None:
    """What the strategy looked at, and what would have turned it."""
    routed = {
        "outcome": "routed",
        "reason_code": "cheapest_capable",
        "chosen_model": "haiku",
        "chosen_slot_id": "haiku-1",
    }
    others = {"haiku": {"gate": "chosen", "score": 0.75}, model: {"gate": "ok", "score": 0.5}}
    assert want in ask(model, "ok", others=others, decision=routed | named).flip


BEHIND: dict[str, str] = {
    "affinity_slot": "context is on haiku-1: send it with the affinity of a slot of glm, or without.",
    "affinity_account": "context is on haiku-1: send it with the affinity of a slot of glm, or without.",
    "least_used": "A slot of glm that was used as little as haiku-1 over 5 min, 12%, in steps of 10%",
    "model_share": "Less use of all slots of glm over 5 min",
    "cost": "A cost below $0.000450: it would have been $0.000550.",
    "score": "0.250000 more score, as by score.bias in the policy",
    "id": "A score.bias for glm is enough.",
    "swap": "swapped slots",
}


@pytest.mark.rule("amend.42", "record.explain")
@pytest.mark.parametrize(("behind", "want"), BEHIND.items(), ids=BEHIND)
def test_an_admissible_model_of_the_same_tier_is_explained_by_what_put_it_behind(behind: str, want: str) -> None:
    """A lower utilisation is no remedy where affinity, cost, score or the id decided."""
    routed = {"outcome": "routed", "reason_code": "cheapest_capable", "chosen_model": "haiku", "utilisation": 0.12}
    others = {"haiku": {"gate": "chosen", "score": 0.75}, "glm": {"gate": "ok", "score": 0.5, "behind": behind}}
    found = ask(
        "glm",
        "ok",
        others=others,
        decision=routed | {"chosen_slot_id": "haiku-1"},
        input_tokens=2_000,
        output_tokens=500,
    )
    assert want in found.flip
    assert ("used" in found.flip) == (behind in ("least_used", "model_share", "score", "id"))


@pytest.mark.rule("amend.42")
def test_a_model_of_unknown_price_is_behind_by_it() -> None:
    """Its price would have to be known."""
    models = SHIPPED.catalog.model
    models = tuple(replace(one, input_usd_per_mtok=None) if one.id == "glm" else one for one in models)
    rules = Rulebook(Catalog(model=models), SHIPPED.policy)
    routed = {"outcome": "routed", "reason_code": "cheapest_capable", "chosen_model": "haiku"}
    others = {"haiku": {"gate": "chosen"}, "glm": {"gate": "ok", "behind": "cost"}}
    found = ask("glm", "ok", rules=rules, others=others, decision=routed | {"chosen_slot_id": "haiku-1"})
    assert found.flip == "Its prices in the catalogue, which are unknown."


def test_the_chosen_one_took_it() -> None:
    """The chosen model needs no change."""
    found = ask("haiku", "chosen", decision={"outcome": "routed", "chosen_slot_id": "haiku-1"})
    assert (found.says, found.flip) == ("haiku took the task, on haiku-1.", "")


def test_a_model_without_a_slot_is_said_to_have_none() -> None:
    """An unknown model is compared with the known ones."""
    case = ask("opus", "busy")
    assert case.gate == "busy"
    assert _absent("sonnet").flip == "Start a slot of sonnet in main: it announces itself with slot.freed."
    assert _absent("sonet").says == "sonet is no model of the catalogue. Did you mean sonnet?"


def _absent(model: str) -> WhyNot:
    row = {"pool": "main", "alternatives": [], "policy": SHIPPED.policy_hash, "catalog": SHIPPED.catalog_hash}
    recorded = Recorded(
        decision=row, decided_ms=Millis(START_MS), task=task(), is_known=False, ruled_out={},
        marks=marks_of((), "main", SHIPPED), available_uusd=None, rulebook=SHIPPED,
    )  # fmt: skip
    return why_not(model, recorded)


def test_later_gates_that_would_have_refused_are_named() -> None:
    """One change alone would not have done."""
    found = ask(
        "opus", "boundary", ModelDrained(**_control(model="opus")), max_tier=2, decision={"p50": 41.0, "ev": 3.2}
    )
    assert found.then == ("opus is drained.", "opus is kept for tasks above P50 (41); this one has EV 3.2.")


def test_what_makes_the_answer_less_sure_is_said() -> None:
    """Another policy decided, or the audit does not hold what the task asked for."""
    found = ask("glm", "capability", known=False, decision={"policy": "other"})
    assert found.says == "The gate capability refused it; what it looked at does not stand in the audit."
    assert len(found.notes) == 2
    assert f"decided by policy other; the numbers here are those of {SHIPPED.policy_hash}" in found.notes[0]


def test_every_verdict_has_an_answer() -> None:
    """A verdict added to the vocabulary must be explained here."""
    assert set(get_args(Verdict)) == set(MEANINGS)
    for gate in get_args(Verdict):
        assert ask("opus", gate, decision={"chosen_slot_id": "opus-1"}).says


@pytest.mark.rule("record.explain", "emergency", "gate.premium")
def test_an_emergency_model_is_not_the_cheaper_one_that_keeps_premium_back() -> None:
    """The router takes opus for a low EV where only an emergency model is cheaper; so does the answer."""
    low: dict[str, Any] = {"p50": 41.0, "ev": 3.2, "chosen_model": "local", "chosen_slot_id": "local-1"}
    alternatives = [{"model": "opus", "gate": "exhausted"}, {"model": "local", "gate": "chosen"}]
    found = ask("opus", "exhausted", exhausted(product="claude"), decision=low | {"alternatives": alternatives})
    assert found.says == "claude is exhausted until 2026-11-21T11:00:00.000Z."
    assert found.then == ()
    cheaper = [*alternatives, {"model": "haiku", "gate": "drained"}]
    found = ask("opus", "exhausted", exhausted(product="claude"), decision=low | {"alternatives": cheaper})
    assert found.then == ("opus is kept for tasks above P50 (41); this one has EV 3.2.",)
    listed = low | {"alternatives": alternatives, "strategy": "preference"}
    found = ask("opus", "exhausted", exhausted(product="claude"), decision=listed, task_type="offline")
    assert len(found.then) == 1, "asked for by a list, the local model is one like any other"


@pytest.mark.rule("amend.31", "amend.32", "record.explain")
def test_premium_would_not_have_refused_where_patience_or_a_fleet_without_cheaper_slots_opened_it() -> None:
    """The row says both: a flag of the decision, and of a model that it was out of reach."""
    low: dict[str, Any] = {"p50": 41.0, "ev": 3.2, "flags": []}

    def then(haiku: dict[str, Any], **decision: Any) -> int:
        row = low | {"alternatives": [{"model": "opus", "gate": "exhausted"}, {"model": "haiku", **haiku}]} | decision
        return len(ask("opus", "exhausted", exhausted(product="claude"), decision=row).then)

    assert then({"gate": "drained"}) == 1
    assert then({"gate": "drained", "out_of_reach": True}) == 0
    assert then({"gate": "drained"}, flags=["patient"]) == 0


def test_a_mark_of_one_account_is_no_second_refusal() -> None:
    """The row does not say under which accounts the model has slots: only what holds for all of them is sure."""
    marks = exhausted(product="claude", account="acct-1")
    assert ask("opus", "boundary", marks, max_tier=2).then == ()
    assert ask("opus", "boundary", exhausted(product="claude"), max_tier=2).then == (
        "claude is exhausted until 2026-11-21T11:00:00.000Z.",
    )


def test_a_floor_model_that_the_catalogue_at_hand_lacks_is_left_out() -> None:
    """The decision was made by another catalogue, which the notes say; the other floors are named as ever."""
    found = ask("haiku", "floor", floor_model="gone", decision={"complexity": "expert", "catalog": "other"})
    assert found.says == "haiku is of tier 1, and the task's floor is higher: class expert asks for tier 3."
    assert len(found.notes) == 1
