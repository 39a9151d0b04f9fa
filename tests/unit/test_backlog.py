"""What waits, read from the index and in order, equals what a look at every task finds."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import pytest

from schemas.events import PolicyActivated
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import Millis, from_millis
from streams.core.policy.rulebook import load_rulebook
from streams.operate.following import FollowedRouter
from streams.shipped import shipped
from streams.views.backlog import ORDERS_MAX, SPARE, Backlog
from streams.views.overview import RecoveredPartition, overview
from streams.views.waiting import Choice, waits_of
from streams.views.waiting_order import Order, Place, Sort
from tests.support.builders import cancelled, freed, rulebook, slot, task
from tests.support.router_rig import RouterRig

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.decision import TaskRow
    from schemas.input import Content

POOLS = ("main", "other")
ORDERS: tuple[Order, ...] = get_args(Order)
CHOICES: tuple[dict[str, str], ...] = (
    {},
    {"reason": "capable_busy"},
    {"reason": "no_capable_model"},
    {"lane": "docs"},
    {"tenant": "acme"},
    {"tenant": "unknown"},
    {"text": "T-1"},
    {"tenant": "acme", "lane": "docs"},
)


class Followed:
    """A rig, and a router that follows its journal as the web server does."""

    def __init__(self) -> None:
        self.rig = RouterRig(book=rulebook(attempts={"back_off_s": 30.0}), strict=False)
        self.router = FollowedRouter(0, self.rig.book)
        self._known = 0

    def follow(self) -> None:
        """Apply the new steps."""
        for step in self.rig.steps[self._known :]:
            self.router.apply(decode_step(encode_step(step)))
        self._known = len(self.rig.steps)

    def waiting(self, pool: str | None = None) -> list[TaskRow]:
        """Look at every task."""
        return [
            row
            for name, one in self.router.state.pools.items()
            if pool in (None, name)
            for row in one.tasks.values()
            if row.status.state == "waiting"
        ]


def some(rng: random.Random, rig: RouterRig, number: int) -> Content:
    """Give something that happens: a task, a slot, an end or a cancel."""
    pool = rng.choice(POOLS)
    running = [
        (row, name)
        for name, one in rig.router.state.pools.items()
        for row in one.slots.values()
        if row.state == "leased"
    ]
    waiting = [row for one in rig.router.state.pools.values() for row in one.tasks.values()]
    match rng.randrange(10):
        case 0:
            return slot(f"{rng.choice(('haiku', 'opus'))}-{rng.randrange(4)}", pool=pool)
        case 1 | 2 if running:
            row, of = rng.choice(running)
            return freed(
                row.slot_id, row.lease, row.task_id, rng.choice(("success", "failure")), at_ms=rig.now_ms, pool=of
            )
        case 3 if waiting:
            gone = rng.choice(waiting).task
            return cancelled(gone.task_id, pool=gone.pool)
        case _:
            return task(
                f"t-{number}",
                title=rng.choice(("Fix typo", "fix a bug", "Ändern", "a ~ b\n", "t" * 200)),
                pool=pool,
                at=from_millis(rig.now_ms - rng.choice((0, 0, 1, 60_000))),
                ev=rng.choice((None, -1.5, 0.0, 2.0, 1e21)),
                priority=rng.choice((30, 50, 90)),
                lane=rng.choice((None, "docs")),
                tenant_id=rng.choice((None, "acme", "zeta")),
                requires=rng.choice(({}, {"coding": 10, "safety": 10})),
            )


def plain_order(rows: list[TaskRow], order: Order, *, descending: bool) -> list[TaskRow]:
    """Sort rows without the code that is tested: without a value last, whatever the direction."""
    by: dict[Order, Callable[[TaskRow], Any]] = {
        "since": lambda row: row.status.since_ms,
        "priority": lambda row: row.task.priority,
        "ev": lambda row: row.ev,
        "attempt": lambda row: row.status.attempt,
        "title": lambda row: row.task.title.lower(),
        "task_id": lambda row: row.task.task_id.lower(),
        "pool": lambda row: row.task.pool,
        "reason": lambda row: row.status.headline,
        "lane": lambda row: row.task.lane,
        "tenant_id": lambda row: row.task.tenant_id,
    }
    of = by[order]

    def place(row: TaskRow) -> Any:
        return (of(row), row.task.pool, row.task.task_id)

    there = sorted((row for row in rows if of(row) is not None), key=place, reverse=descending)
    absent = (row for row in rows if of(row) is None)
    return there + sorted(absent, key=lambda row: (row.task.pool, row.task.task_id), reverse=descending)


def plain_takes(row: TaskRow, named: dict[str, str]) -> bool:
    """Whether a filter takes a row, without the code that is tested."""
    task = row.task
    known = {"reason": row.status.headline, "lane": task.lane, "tenant": task.tenant_id}
    text = named.get("text", "").lower()
    return all(known[name] == value for name, value in named.items() if name != "text") and (
        text in task.task_id.lower() or text in task.title.lower()
    )


def compare(followed: Followed, pool: str | None) -> None:
    """Compare counts and pages with a look at every task."""
    router, backlog = followed.router, followed.router.backlog
    rows = followed.waiting(pool)
    now_ms = Millis(followed.rig.now_ms)
    found = overview({0: RecoveredPartition(router=router)}, now_ms, pool)
    states = Counter(
        row.status.state
        for name, one in router.state.pools.items()
        if pool in (None, name)
        for row in one.tasks.values()
    )
    for state in ("waiting", "running", "delayed"):
        assert sum(getattr(one.tasks, state) for one in found.pools) == states[state]
    for order, descending in itertools.product(ORDERS, (False, True)):
        for named in CHOICES:
            choice = Choice(sort=Sort(order, descending), **named)
            wanted = plain_order([row for row in rows if plain_takes(row, named)], order, descending=descending)
            ids: list[tuple[str, str]] = []
            after: Place | None = None
            while True:
                page = waits_of([backlog], now_ms, pool=pool, choice=choice, limit=3, after=after)
                assert page.total == len(rows)
                assert page.delayed == states["delayed"]
                assert page.by_reason == Counter(str(row.status.headline) for row in rows)
                assert page.matching == len(wanted)
                since = [(now_ms - row.status.since_ms) / 1000 for row in rows]
                assert page.oldest_s == max(since, default=None)
                ids += [(one.pool, one.task_id) for one in page.rows]
                if (after := page.last) is None:
                    break
                assert len(page.rows) == 3
            assert ids == [(row.task.pool, row.task.task_id) for row in wanted]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_equals_what_a_look_at_every_task_finds(seed: int) -> None:
    """Through arrivals, ends, failures, cancels and back-offs, for each order, filter and pool, page by page."""
    rng, followed = random.Random(seed), Followed()
    for number in range(90):
        batch = [some(rng, followed.rig, 10 * number)] if number % 9 else [task(f"b-{number}-{n}") for n in range(6)]
        followed.rig.hand_in(*batch, after_s=rng.choice((0.0, 1.0, 40.0)))
        followed.follow()
        if number % 30 == 7:
            compare(followed, None)
    for pool in (None, *POOLS):
        compare(followed, pool)
    assert len(followed.waiting()) > 10


def test_a_page_goes_on_where_the_last_one_ended_although_its_last_row_has_left() -> None:
    """New tasks come at the end and others leave: nothing that waits throughout is passed over or shown twice."""
    followed = Followed()
    followed.rig.hand_in(*(task(f"t-{number}", at=from_millis(followed.rig.now_ms + number)) for number in range(9)))
    followed.follow()
    backlog, now_ms = followed.router.backlog, Millis(followed.rig.now_ms)
    first = waits_of([backlog], now_ms, limit=3)
    assert [one.task_id for one in first.rows] == ["t-0", "t-1", "t-2"]
    followed.rig.hand_in(cancelled("t-2"), cancelled("t-4"), task("t-9"), after_s=1.0)
    followed.follow()
    second = waits_of([backlog], now_ms, limit=9, after=first.last)
    assert [one.task_id for one in second.rows] == ["t-3", "t-5", "t-6", "t-7", "t-8", "t-9"]
    assert second.last is None


BY_WAIT, BY_EV, BY_TITLE = Sort(), Sort("ev", descending=True), Sort("title")


def ids_of(backlog: Backlog, sort: Sort) -> list[str]:
    """Read a whole order."""
    return [row.task.task_id for row in backlog.rows("main", sort)]


def listed(backlog: Backlog) -> set[Sort]:
    """Which orders have a list now."""
    return set(backlog._ordered.get("main", {}))


def test_keys_of_tasks_that_left_do_not_pile_up() -> None:
    """The list is made again when most of it is stale; an unknown pool is not remembered."""
    followed = Followed()
    backlog: Backlog = followed.router.backlog
    assert list(backlog.rows("unknown", BY_WAIT)) == []
    assert backlog.having("unknown", "first") == []
    followed.rig.hand_in(task("first"))
    followed.follow()
    assert ids_of(backlog, BY_WAIT) == ids_of(backlog, BY_WAIT) == ["first"]
    assert backlog.having("main", "FIRST")
    for number in range(3 * SPARE):
        followed.rig.hand_in(task(f"t-{number}"), after_s=0.001)
        followed.rig.hand_in(cancelled(f"t-{number}"), after_s=0.001)
        followed.follow()
    assert len(backlog._ordered["main"][BY_WAIT]._keys) <= SPARE + 2
    assert len(backlog._texts["main"]._texts) <= SPARE + 2
    assert ids_of(backlog, BY_WAIT) == ["first"]
    assert "unknown" not in {*backlog._ordered, *backlog._texts}


def test_an_order_is_kept_while_it_is_read_and_no_longer() -> None:
    """What is asked for once gets no list; one that is not read is given up; the latest few stay."""
    followed = Followed()
    backlog: Backlog = followed.router.backlog
    followed.rig.hand_in(task("first", ev=1.0), task("second", ev=2.0))
    followed.follow()
    assert ids_of(backlog, BY_EV) == ["second", "first"]
    assert listed(backlog) == set()
    assert ids_of(backlog, BY_EV) == ["second", "first"]
    assert ids_of(backlog, BY_WAIT) == ids_of(backlog, BY_WAIT) == ["first", "second"]
    assert listed(backlog) == {BY_EV, BY_WAIT}
    for number in range(2 * SPARE):
        followed.rig.hand_in(task(f"t-{number:03}", ev=3.0 + number), after_s=0.001)
        followed.follow()
    assert listed(backlog) == {BY_WAIT}
    assert ids_of(backlog, BY_EV)[:2] == ["t-127", "t-126"]
    orders = [Sort(order) for order in ORDERS if order != "since"]
    for sort in orders:
        assert sorted(ids_of(backlog, sort)) == sorted(ids_of(backlog, sort))
    assert listed(backlog) == set(orders[-ORDERS_MAX:])


def test_other_rules_change_no_order() -> None:
    """They make the index of the router again, and what came since then is found too."""
    followed = Followed()
    backlog: Backlog = followed.router.backlog
    followed.rig.hand_in(task("b", title="b"), task("c", title="c"))
    followed.follow()
    assert ids_of(backlog, BY_TITLE) == ids_of(backlog, BY_TITLE) == ["b", "c"]
    assert len(backlog.having("main", "c")) == 1
    texts = shipped("policy.toml").replace("priority_min = 90", "priority_min = 95"), shipped("catalog.toml")
    book = load_rulebook(texts[1], texts[0])
    followed.rig.hand_in(
        PolicyActivated(
            control_id="p-1", at=followed.rig.at, by="ops",
            policy=book.policy_hash, policy_text=texts[0], catalog=book.catalog_hash, catalog_text=texts[1],
        ),
    )  # fmt: skip
    followed.rig.hand_in(task("a", title="A"), task("c2", title="c"), cancelled("b"))
    followed.follow()
    assert ids_of(backlog, BY_TITLE) == ["a", "c", "c2"]
    assert len(backlog.having("main", "c")) == 2
    assert followed.router.rulebook.policy_hash == book.policy_hash
