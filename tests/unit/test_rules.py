"""The rules and the vocabulary agree: a gate is one file, one line in `RULES` and its words in the vocabulary."""

from __future__ import annotations

from typing import get_args

from schemas.events import TaskPending
from schemas.vocabulary import GATES, Headline, ReasonCode, Verdict
from streams.core.policy.rules import BY_HEADLINE, MARKS_RULES, RULES, UNABLE, Rule, first, furthest
from tests.support.builders import task


def test_the_rules_are_the_gates_in_the_order_in_which_they_are_asked() -> None:
    """Each once, and each in the file of its name."""
    assert tuple(rule.gate for rule in RULES) == GATES
    assert [type(rule).__module__.rpartition(".")[2] for rule in RULES] == list(GATES)


def test_every_verdict_is_a_gates_or_says_how_far_the_model_got() -> None:
    """No verdict without a rule that can give it."""
    assert [verdict for verdict in get_args(Verdict) if verdict not in GATES] == ["lost", "busy", "ok", "chosen"]


def test_every_headline_is_a_rules_but_those_of_busy_and_of_lost_slots() -> None:
    """No two rules share one, so that a waiting task's reason code leads to its rule."""
    assert len(BY_HEADLINE) == len(RULES)
    assert {*BY_HEADLINE, "capable_busy", "lost"} == set(get_args(Headline))
    assert set(get_args(Headline)) <= set(get_args(ReasonCode))


def test_the_rules_that_need_no_task_are_those_that_look_at_marks() -> None:
    """In their order; and what cannot do the work at all depends on the task alone."""
    assert [rule for rule in RULES if rule.looks_at == "marks"] == list(MARKS_RULES)
    unable: list[Rule] = [rule for rule in RULES if rule.unable]
    assert {rule.looks_at for rule in unable} == {"task"}
    assert {rule.gate for rule in unable} == UNABLE


def test_a_rule_names_fields_of_a_task_by_which_shapes_differ() -> None:
    """Fields of the event whose values can be a key; only rules that look at the task have some."""
    fields = {name for rule in RULES for name in rule.task_fields}
    assert fields <= set(TaskPending.__struct_fields__)
    assert hash(tuple(getattr(task(), name) for name in sorted(fields)))
    assert [rule.gate for rule in RULES if rule.task_fields and rule.looks_at != "task"] == []


def test_of_two_verdicts_the_earlier_gate_counts_and_of_a_group_the_one_that_got_furthest() -> None:
    """A passed gate refuses nothing."""
    assert first(None, None) is None
    assert first("premium", "quota") == first("quota", "premium") == "quota"
    assert first(None, "drained") == first("drained", None) == "drained"
    assert furthest(["capability", "credit", None, "floor"]) == "credit"
    assert furthest([None]) is None
