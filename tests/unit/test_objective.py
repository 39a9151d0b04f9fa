"""A task's objective: its own word, else its lane's, else by the kind of work, else by its class, else the default."""

from __future__ import annotations

import pytest

from schemas.vocabulary import Complexity, Objective
from streams.core.policy.objective import ObjectivePolicy
from tests.support.builders import rulebook, task

SHIPPED = rulebook().policy.objective


@pytest.mark.rule("strategy.of_lane")
def test_the_nearest_word_wins() -> None:
    """Each source counts only where the earlier ones are absent."""
    by = ObjectivePolicy(default="cost_speed", by_task_type={"docs": "quality"}, by_complexity={"expert": "balanced"})
    assert by.resolve(task(task_type="docs", objective="cost_speed"), "expert", "balanced") == "cost_speed"
    assert by.resolve(task(task_type="docs"), "expert", "balanced") == "balanced"
    assert by.resolve(task(task_type="docs"), "expert", None) == "quality"
    assert by.resolve(task(task_type="poem"), "expert", None) == "balanced"
    assert by.resolve(task(task_type="poem"), "simple", None) == "cost_speed"
    assert by.resolve(task(), "expert", None) == "balanced"
    assert by.resolve(task(), None, None) == "cost_speed"


KINDS: dict[str, Objective] = {
    "docs": "cost_speed", "tests": "cost_speed", "lint": "cost_speed", "format": "cost_speed",
    "architecture": "quality", "security": "quality", "migration": "quality",
    "refactor": "balanced", "code": "balanced", "writing": "balanced",
}  # fmt: skip


@pytest.mark.rule("objective.from_shape", "policy.objective")
@pytest.mark.parametrize(("kind", "want"), KINDS.items())
def test_the_shipped_kinds_of_work(kind: str, want: Objective) -> None:
    """What is checked by a machine may be cheap; what is hard to undo must be good."""
    assert SHIPPED.resolve(task(task_type=kind), None, None) == want


CLASSES: dict[Complexity, Objective] = {
    "trivial": "balanced", "simple": "balanced", "standard": "balanced", "complex": "quality", "expert": "quality",
}  # fmt: skip


@pytest.mark.rule("objective.from_shape")
@pytest.mark.parametrize(("complexity", "want"), CLASSES.items())
def test_a_refactor_with_weight_wants_quality(complexity: Complexity, want: Objective) -> None:
    """Its class decides, since its kind has no objective of its own."""
    assert SHIPPED.resolve(task(task_type="refactor"), complexity, None) == want


def test_the_kind_of_work_counts_before_the_class() -> None:
    """The type of work counts before the class."""
    assert SHIPPED.resolve(task(task_type="docs"), "expert", None) == "cost_speed"


@pytest.mark.rule("policy.objective")
def test_an_empty_policy_is_balanced() -> None:
    """Without rules the objective is balanced."""
    assert ObjectivePolicy().resolve(task(task_type="docs"), "expert", None) == "balanced"
