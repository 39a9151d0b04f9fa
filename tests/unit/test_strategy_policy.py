"""Which strategy chooses a task's slot, and the models that a kind of work prefers."""

from __future__ import annotations

import pytest

from streams.core.policy.preference import StrategyPolicy
from tests.support.builders import rulebook, task

SHIPPED = rulebook().policy.strategy


@pytest.mark.rule("strategy.of_lane")
def test_the_nearest_word_wins() -> None:
    """The task's own, else its lane's, else the default."""
    assert SHIPPED.resolve(task(strategy="preference"), "objective") == "preference"
    assert SHIPPED.resolve(task(), "objective") == "objective"
    assert SHIPPED.resolve(task(), None) == "cheapest_capable"
    assert StrategyPolicy(default="objective").resolve(task(), None) == "objective"


RANKINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("strategy", "analysis", "planning"), ("opus",)),
    **dict.fromkeys(("writing", "email", "summarize"), ("sonnet",)),
    **dict.fromkeys(("code", "debug", "refactor", "script"), ("codex", "sonnet", "opus")),
    **dict.fromkeys(("bulk", "translate", "format"), ("gemini-flash",)),
    **dict.fromkeys(("private", "offline"), ("local",)),
}


@pytest.mark.rule("strategy.preference")
@pytest.mark.parametrize(("kind", "want"), RANKINGS.items())
def test_the_shipped_lists(kind: str, want: tuple[str, ...]) -> None:
    """Lists are in order of preference."""
    assert SHIPPED.ranking(task(task_type=kind)) == want


@pytest.mark.rule("policy.strategy")
def test_the_shipped_lists_are_these_and_no_more() -> None:
    """A new strategy must be listed here."""
    assert SHIPPED.preference.keys() == RANKINGS.keys()


def test_another_kind_of_work_has_no_list() -> None:
    """A task without a type has no list either."""
    assert SHIPPED.ranking(task(task_type="poem")) == SHIPPED.ranking(task()) == ()


@pytest.mark.rule("strategy.preference")
@pytest.mark.parametrize(
    ("default", "want"),
    [
        ("cheapest_capable", "cheapest_capable"),
        ("objective", "objective"),
        ("preference", "cheapest_capable"),
    ],
)
def test_after_the_list_the_default_strategy_chooses(default: str, want: str) -> None:
    """A default that is `preference` itself would go in circles."""
    assert StrategyPolicy(default=default).fallback == want
