"""A decision is explained in words, and no character of a producer acts on the terminal."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from rich.console import Console

from schemas.vocabulary import Verdict
from streams.commands.explain_text import render
from streams.views.explain import MEANINGS, plain


def row(**named: Any) -> dict[str, Any]:
    """Give a row as the query `explain` does: a routed decision without an outcome."""
    nothing = dict.fromkeys(
        (
            *("complexity", "layer", "lane", "tenant_id", "objective", "ev", "ev_percentile", "p90", "asked", "money"),
            *("priced_at", "estimated_cost_usd", "saved_vs_premium_usd", "saved_vs_next_free_usd"),
        )
    )
    work = dict.fromkeys(
        f"work_{key}"
        for key in (
            *("status", "ended_at", "cost_usd", "actual_cost_usd", "latency_s", "quality", "accepted"),
            *("error_class", "fit"),
        )
    )
    return {
        "decision_id": UUID(int=1), "journal": "decision.audit", "mode": "live", "pool": "main", "task_id": "t-1",
        "attempt": 1, "outcome": "routed", "reason_code": "cheapest_capable", "reason": "Lowest capable tier.",
        "chosen_slot_id": "haiku-1", "chosen_model": "haiku", "tier": 1, "priority": 40, "lifted": False,
        "strategy": "cheapest_capable", "flags": [], "fallback": False,
        "decided_at": datetime(2026, 11, 21, 10, tzinfo=UTC), "alternatives": {"haiku": {"gate": "chosen"}},
        **nothing, **work, **named,
    }  # fmt: skip


def shown(*rows: dict[str, Any]) -> str:
    """Give what a terminal would show."""
    out = Console(width=140, no_color=True)
    with out.capture() as capture:
        out.print(render(plain(rows)))
    return capture.get()


@pytest.mark.rule("detail.7")
def test_every_verdict_has_words() -> None:
    """A verdict added to the vocabulary needs its meaning here."""
    assert set(MEANINGS) == set(get_args(Verdict))


def test_values_are_plain_json() -> None:
    """Times end in Z, money is a number, ids are texts."""
    told = plain([row(estimated_cost_usd=Decimal("0.0041"), work_status="success", work_accepted=True)])
    assert json.loads(json.dumps(told)) == told
    assert told[0]["decided_at"] == "2026-11-21T10:00:00.000Z"
    assert told[0]["estimated_cost_usd"] == 0.0041
    assert told[0]["work"]["accepted"] is True


def test_alternatives_stand_in_the_order_of_how_far_they_came() -> None:
    """The chosen one first, then who would have done, then who was refused late, then early."""
    gates = {"a": "capability", "b": "premium", "c": "busy", "d": "ok", "e": "chosen"}
    told = plain([row(alternatives={model: {"gate": gate} for model, gate in gates.items()})])
    assert [one["model"] for one in told[0]["alternatives"]] == ["e", "d", "c", "b", "a"]


def test_a_wait_is_shown_with_its_reason_and_every_model() -> None:
    """The text says what the task waits for."""
    text = shown(
        row(
            outcome="waiting",
            reason_code="reserved_for_ev",
            chosen_model=None,
            chosen_slot_id=None,
            ev=3.2,
            reason="opus is kept for tasks above P50 (41); this one has EV 3.2.",
            ev_percentile=0.12,
            alternatives={"opus": {"gate": "premium", "score": 0.5}, "haiku": {"gate": "capability"}},
        )
    )
    assert "waiting (reserved_for_ev)" in text
    assert "opus is kept for tasks above P50 (41); this one has EV 3.2." in text
    assert "opus is kept for tasks of higher expected value" in text
    assert "haiku does not reach what the task requires" in text
    assert "EV 3.2, above 12% of the last hour" in text


def test_a_decision_is_shown_with_what_was_asked_its_cost_and_its_movements() -> None:
    """Scores, strategy, flags, estimate, savings and the tenant's budget, in words."""
    text = shown(
        row(
            asked={"requires": {"coding": 8}, "input_tokens": 1800, "deny_providers": ["zhipu"]},
            strategy="objective", objective="quality", flags=["watching"], lane="docs",
            estimated_cost_usd=Decimal("0.0041"), priced_at=date(2026, 11, 21),
            saved_vs_premium_usd=Decimal("0.12"), saved_vs_next_free_usd=Decimal("-0.003"),
            alternatives={"haiku": {"gate": "chosen", "score": 0.75}},
            money=[{"kind": "reserve", "amount_usd": 0.0041, "at": "2026-11-21T10:00:00.000Z"}],
        )
    )  # fmt: skip
    assert "asked for coding>=8; input_tokens 1800; deny_providers zhipu" in text
    assert "strategy objective; objective quality; watching" in text
    assert "about $0.0041, by prices of 2026-11-21; $0.1200 less than premium; $0.0030 more than the slot" in text
    assert "0.75" in text
    assert "Budget: reserve $0.0041 at 2026-11-21T10:00:00.000Z." in text


def test_what_strangers_wrote_does_not_act_on_the_terminal() -> None:
    """Escape sequences, line ends and marks of direction are spelled out; markup is not markup."""
    text = shown(row(reason="a\x1b[2Jb\r\nc \u202e [bold]d[/bold]", layer="\x07docs"))
    assert "a\\u001b[2Jb\\u000d\\u000ac \\u202e [bold]d[/bold]" in text
    assert "layer \\u0007docs" in text


@pytest.mark.rule("amend.33")
@pytest.mark.parametrize(
    ("ended", "advice"),
    [
        ("done", "It is done: to have it done once more, send another id."),
        ("expired", "To have it done again, send it with an `at` after 2026-11-21T10:00:00.000Z."),
    ],
)
def test_a_task_that_was_sent_again_for_nothing_says_so_and_what_to_do(ended: str, advice: str) -> None:
    """When it came, how it had ended, and how it would be done again."""
    (told,) = plain([row()])
    again = {"at": "2026-11-21T10:05:00.000Z", "ended": ended, "ended_at": "2026-11-21T10:00:00.000Z"}
    told["sent_again"].append(again)
    out = Console(width=200, no_color=True)
    with out.capture() as capture:
        out.print(render([told]))
    assert (
        "Sent again at 2026-11-21T10:05:00.000Z and ignored as a duplicate: it had ended at 2026-11-21T10:00:00.000Z "
        f"({ended}). {advice}"
    ) in capture.get()
