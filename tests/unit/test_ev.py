"""An expected value is given, advised or computed; a decision has its percentile."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.decision import Advice, Percentiles
from schemas.events import TaskPending
from schemas.vocabulary import Millis
from streams.core.policy import ev as module
from streams.core.policy.ev import CachedScorer, ingredients, percentile_of
from tests.support.builders import START_MS, task

WHOLE: dict[str, Any] = {"importance": 2.0, "tractability": 3.0, "impact": 5.0, "estimated_cost": 4.0}
INGREDIENTS: dict[str, tuple[dict[str, float | None], float | None]] = {
    "all of them": ({}, 7.5),
    "a cost of 1": ({"estimated_cost": 1.0}, 30.0),
    "a cost of 0": ({"estimated_cost": 0.0}, None),
    "no cost": ({"estimated_cost": None}, None),
    "no importance": ({"importance": None}, None),
    "no tractability": ({"tractability": None}, None),
    "no impact": ({"impact": None}, None),
    "neither impact nor a cost": ({"impact": None, "estimated_cost": 0.0}, None),
    "no importance at all is worth nothing": ({"importance": 0.0}, 0.0),
    "what does harm": ({"impact": -5.0}, -7.5),
}


@pytest.mark.parametrize(("changed", "want"), INGREDIENTS.values(), ids=INGREDIENTS.keys())
def test_the_shipped_scorer_needs_all_ingredients(changed: dict[str, float | None], want: float | None) -> None:
    """A cost of 0 leaves the EV unknown; other ingredients may be 0."""
    assert ingredients(task(**(WHOLE | changed))) == want


class Counting:
    """A scorer that counts how often it is asked, and answers with the title's length."""

    def __init__(self) -> None:
        """Nothing was asked."""
        self.asked = 0

    def __call__(self, one: TaskPending, /) -> float:
        """The length of the title."""
        self.asked += 1
        return float(len(one.title or ""))


def test_each_task_has_a_score_of_its_own_for_as_long_as_it_is_kept() -> None:
    """By pool and id; a task that changed is another one."""
    scorer = Counting()
    kept = CachedScorer(scorer, keep_ms=1_000)
    ones = [task("a", title="x"), task("b", title="xy"), task("a", pool="side", title="xyz")]
    now_ms = START_MS
    for _ in range(3):
        assert [kept.ev(one, Millis(now_ms)) for one in ones] == [1.0, 2.0, 3.0]
        now_ms += 300
    assert scorer.asked == 3
    assert kept.ev(task("a", title="xxxx"), Millis(now_ms)) == 4.0
    assert scorer.asked == 4


@pytest.mark.parametrize(("after_ms", "want_asked"), {999: 1, 1_000: 2, 1_001: 2}.items())
def test_a_score_is_kept_until_its_time_is_over(after_ms: int, want_asked: int) -> None:
    """The time is that of the step."""
    scorer = Counting()
    kept = CachedScorer(scorer, keep_ms=1_000)
    kept.ev(task("a"), Millis(START_MS))
    kept.ev(task("a"), Millis(START_MS + after_ms))
    assert scorer.asked == want_asked


def test_of_too_many_scores_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are allowed stay; one asked for again counts as new."""
    monkeypatch.setattr(module, "_CACHE_MAX", 2)
    scorer = Counting()
    kept = CachedScorer(scorer, keep_ms=1_000)

    def asks(task_id: str, after_ms: int = 0) -> bool:
        before = scorer.asked
        kept.ev(task(task_id), Millis(START_MS + after_ms))
        return scorer.asked > before

    assert [asks(task_id) for task_id in ("a", "b", "a", "b")] == [True, True, False, False]
    assert [asks("a", 1_000), asks("c", 1_000)] == [True, True]
    assert [asks("a", 1_500), asks("c", 1_500), asks("b", 1_500)] == [False, False, True]


GIVEN: dict[str, tuple[TaskPending, Advice | None, float | None]] = {
    "its own": (task(ev=3.0, **WHOLE), Advice(ev=9.0), 3.0),
    "its own 0": (task(ev=0.0, **WHOLE), Advice(ev=9.0), 0.0),
    "a plug-in's": (task(**WHOLE), Advice(ev=9.0), 9.0),
    "a plug-in's 0": (task(**WHOLE), Advice(ev=0.0), 0.0),
    "a plug-in's that is no number": (task(**WHOLE), Advice(ev=float("nan")), None),
    "no word of a plug-in": (task(**WHOLE), Advice(), 7.5),
    "not asked": (task(**WHOLE), None, 7.5),
    "one that overflows": (task(importance=1e300, tractability=1e300, impact=1.0, estimated_cost=1.0), None, None),
}


@pytest.mark.parametrize(("one", "advice", "want"), GIVEN.values(), ids=GIVEN.keys())
def test_a_tasks_own_value_wins_then_a_plug_ins_then_the_scorers(
    one: TaskPending, advice: Advice | None, want: float | None
) -> None:
    """What is no finite number is unknown."""
    assert CachedScorer(ingredients, keep_ms=1_000).ev(one, Millis(START_MS), advice) == want


def percentiles(*quantiles: float) -> Percentiles:
    """Percentiles with 101 quantiles."""
    return Percentiles(pool="main", at_ms=Millis(START_MS), samples=len(quantiles), quantiles=quantiles)


#: 0, 2, 4, ... 200: a value is at half of itself.
EVEN = percentiles(*(2.0 * i for i in range(101)))
#: A hundred times 5, then 9.
FLAT = percentiles(*(5.0,) * 100, 9.0)
PLACES: dict[str, tuple[float | None, Any, float | None]] = {
    "below all": (-1.0, EVEN, 0.0),
    "the least": (0.0, EVEN, 0.0),
    "on a quantile": (50.0, EVEN, 0.25),
    "between two": (51.0, EVEN, 0.255),
    "between two, four digits": (51.005, EVEN, 0.255),
    "just below the greatest": (199.0, EVEN, 0.995),
    "the greatest": (200.0, EVEN, 1.0),
    "above all": (500.0, EVEN, 1.0),
    "where many are alike": (5.0, FLAT, 0.99),
    "above those": (6.0, FLAT, 0.9925),
    "unknown": (None, EVEN, None),
    "no percentiles": (5.0, None, None),
    "too few samples": (5.0, percentiles(), None),
}


@pytest.mark.parametrize(("ev", "than", "want"), PLACES.values(), ids=PLACES.keys())
def test_a_value_has_a_percentile(ev: float | None, than: Any, want: float | None) -> None:
    """In a straight line between two of the hundred quantiles, to four digits."""
    assert percentile_of(ev, than) == want
