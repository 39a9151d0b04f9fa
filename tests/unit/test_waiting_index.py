"""Waiting tasks are found by EV between two percentiles, by tenant and by age, without a look at all of them."""

from __future__ import annotations

import pytest

from schemas.decision import Percentiles, TaskRow, TaskStatus
from schemas.vocabulary import Millis
from streams.core.index.waiting import Entry
from streams.core.index.waiting_index import WaitingIndex
from tests.support.builders import START_MS, entry_of, task

AGEING_MS = 1_000


def waits(task_id: str, ev: float | None = None, *, priority: int = 50, tenant: str | None = None) -> Entry:
    """Give an entry of a task that began to wait at the start."""
    row = TaskRow(
        task=task(task_id, priority=priority, tenant_id=tenant),
        at_ms=Millis(START_MS),
        ev=ev,
        status=TaskStatus(state="waiting", attempt=1, since_ms=Millis(START_MS), accepted_ms=Millis(START_MS)),
    )
    return entry_of(row, AGEING_MS)


def percentiles(p50: float, p90: float) -> Percentiles:
    """Give percentiles."""
    return Percentiles(pool="main", at_ms=Millis(START_MS), samples=9, p50=p50, p90=p90)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (None, None, ""),
        (None, (0.0, 100.0), "abcdefu"),
        ((0.0, 100.0), (0.0, 100.0), ""),
        ((0.0, 100.0), (7.0, 100.0), "bcd"),
        ((7.0, 100.0), (0.0, 100.0), "bcd"),
        ((-500.0, 100.0), (-0.01, 100.0), "a"),
        ((0.0, 20.0), (0.0, 10_000.0), "ef"),
        ((0.0, 20.0), (2.0, 100.0), "bce"),
    ],
)
def test_tasks_between_an_old_and_a_new_percentile(
    before: tuple[float, float] | None, after: tuple[float, float] | None, found: str
) -> None:
    """EVs -3, 0, 1, 5, 50 and 5000, and one that is unknown."""
    index = WaitingIndex()
    for task_id, ev in zip("abcdefu", (-3.0, 0.0, 1.0, 5.0, 50.0, 5_000.0, None), strict=True):
        index.add(waits(task_id, ev))
    between = index.between(percentiles(*before) if before else None, percentiles(*after) if after else None)
    assert "".join(sorted(entry.task_id for entry in between)) == found


def test_a_task_that_left_is_found_nowhere() -> None:
    """By id, tenant, EV and age; another entry of the same task takes the place of the first."""
    index = WaitingIndex()
    first, other = waits("t", 1.0, tenant="acme"), waits("other", 2.0, priority=40, tenant="acme")
    index.add(first)
    index.add(other)
    fresh = waits("t", 1.0, tenant="acme")
    index.replace(fresh)
    assert index.of_tenant("acme") == [fresh, other]
    assert (index.as_old_as(fresh), index.as_old_as(other)) == (1, 2)
    index.remove(fresh)
    assert index.entries == {"other": other}
    assert index.of_tenant("acme") == [other]
    assert index.between(percentiles(0.0, 9.0), percentiles(5.0, 9.0)) == [other]
    assert index.as_old_as(first) == 0
    index.remove(other)
    assert index.of_tenant("acme") == []
