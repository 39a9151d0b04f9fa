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
from streams.commands.explain_text import found_nothing, render, render_found
from streams.views.explain import MEANINGS, plain
from streams.views.find import Found, has_words


def row(**named: Any) -> dict[str, Any]:
    """Give a row as the query `explain` does: a routed decision without an outcome."""
    nothing = dict.fromkeys(
        (
            *(
                "complexity",
                "layer",
                "lane",
                "tenant_id",
                "objective",
                "ev",
                "ev_percentile",
                "p90",
                "asked",
                "money",
                "title",
            ),
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
@pytest.mark.parametrize("ended", ["done", "expired"])
def test_a_task_that_was_sent_again_for_nothing_says_so_and_what_to_do(ended: str) -> None:
    """When it came, how it had ended, and how it would be done again."""
    (told,) = plain([row()])
    again = {"at": "2026-11-21T10:05:00.000Z", "ended": ended, "ended_at": "2026-11-21T10:00:00.000Z"}
    told["sent_again"].append(again)
    out = Console(width=200, no_color=True)
    with out.capture() as capture:
        out.print(render([told]))
    assert (
        "Sent again at 2026-11-21T10:05:00.000Z and ignored as a duplicate: it had ended at 2026-11-21T10:00:00.000Z "
        f"({ended}). `slotwise retry t-1` runs it again."
    ) in capture.get()


def test_orders_and_a_lost_lease_are_part_of_the_story() -> None:
    """Who cancelled it and what that came to, who had it run again, and where no end was reported."""
    (told,) = plain([row()])
    at = "2026-11-21T10:05:00.000Z"
    told["is_lost"] = True
    told["orders"] += [
        {"kind": "task.cancelled", "by": "an\x1bn", "at": at, "asked": "haiku-1"},
        {"kind": "task.cancelled", "by": "ann", "at": at, "asked": None},
        {"kind": "task.retried", "by": "ann", "at": at, "asked": None},
    ]
    out = Console(width=200, no_color=True)
    with out.capture() as capture:
        out.print(render([told]))
    for said in (
        "No end of the work was reported: its lease ran out, or its slot was started again or retired.",
        f"an\\u001bn cancelled it at {at} while it ran: haiku-1 was asked to stop.",
        f"ann cancelled it at {at}.",
        f"ann ordered at {at} that it is run again.",
    ):
        assert said in capture.get()


def found(*tasks: dict[str, Any], **named: Any) -> Found:
    """Give what `--find typo` found: by default all of it."""
    return Found(**{"words": "typo", "since": None, "total": len(tasks), "tasks": list(tasks), **named})


@pytest.mark.rule("record.title")
def test_the_title_is_shown_once_and_does_not_act_on_the_terminal() -> None:
    """Escape sequences, marks of direction and markup are shown as they are written, also in a list."""
    title = "[red]Fix\x1b[2J \u202etypo\r\n"
    text = shown(row(title=title), row(title=title, attempt=2))
    assert text.count("[red]Fix\\u001b[2J \\u202etypo\\u000d\\u000a") == 1
    out = Console(width=200, no_color=True)
    with out.capture() as capture:
        out.print(render_found(found(*plain([row(title=title), row(title="x" * 200, pool="docs")]), total=5)))
    listed = capture.get()
    assert "[red]Fix\\u001b[2J \\u202etypo\\u000d\\u000a" in listed
    assert "t-1 in docs" in listed
    assert "x" * 61 not in listed
    assert "3 more: see them with --limit, or look for another word." in listed


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({}, "No title has words that begin with typo: searched were the live decisions of the whole audit."),
        (
            {"titled": False, "since": "2026-11-21T10:00:00.000Z"},
            (
                "None of the live decisions since 2026-11-21T10:00:00.000Z has a title: the sink leaves titles out "
                "(SLOTWISE_AUDIT_TITLES), the tasks have none, or an older sink wrote them."
            ),
        ),
        ({"searched": False, "titled": False}, "There are no live decisions of the whole audit."),
    ],
)
def test_who_finds_nothing_reads_what_was_searched(what: dict[str, Any], sentence: str) -> None:
    """And whether there were titles at all."""
    assert found_nothing(found(**what), "live decisions") == sentence


@pytest.mark.parametrize(
    ("title", "words", "has"),
    [
        ("Fix typo in README.md", "typo", True),
        ("Fix typo in README.md", "TYPO read md", True),
        ("Fix typos", "typo", True),
        ("Fix typo", "typos", False),
        ("Fix typo", "ypo", False),
        ("Fix typo", "typo readme", False),
        (None, "typo", False),
    ],
)
def test_words_are_found_by_their_beginning(title: str | None, words: str, *, has: bool) -> None:
    """Whatever their case and what stands between them; all of them."""
    assert has_words(title, words) is has
