"""What an operator is shown: the state in plain words, and one sentence for each thing that needs a look."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import BudgetCredited, FleetControl, ModelDrained, ModelExhausted, QuotaUpdated
from schemas.vocabulary import Millis, from_millis
from streams.views.overview import ModelView, Overview, PoolView, RecoveredPartition, overview
from tests.support.builders import START_MS, rulebook, slot, task
from tests.support.router_rig import RouterRig

HOUR_MS = 3_600_000


def order(kind: type, **fields: Any) -> FleetControl:
    """Give an operator's event."""
    made: FleetControl = kind(
        control_id=f"c-{kind.__name__}-{len(fields)}", at=from_millis(START_MS), by="ops", **fields
    )
    return made


def look(rig: RouterRig, now_ms: int | None = None, pool: str | None = None) -> Overview:
    """Return the overview of a rig's partition."""
    return overview({0: RecoveredPartition(router=rig.router)}, Millis(now_ms or rig.now_ms), pool)


def pool_of(found: Overview, name: str = "main") -> PoolView:
    """Find a pool."""
    return next(one for one in found.pools if one.pool == name)


def model_of(found: Overview, name: str) -> ModelView:
    """Find a model of the pool main."""
    return next(one for one in pool_of(found).models if one.model == name)


def test_a_fleet_at_work_is_well() -> None:
    """Free and leased slots and tasks are counted; nothing needs a look."""
    rig = RouterRig("haiku-1", "haiku-2", "opus-1")
    rig.hand_in(task("t-1"))
    found = look(rig)
    assert found.well
    assert (pool_of(found).tasks.running, pool_of(found).tasks.waiting) == (1, 0)
    assert [one.model for one in pool_of(found).models] == ["opus", "haiku"]
    assert (model_of(found, "haiku").slots.free, model_of(found, "haiku").slots.leased) == (1, 1)
    assert model_of(found, "haiku").slots.held == 1, "the old name, until 0.2.0"
    assert model_of(found, "haiku").cells[0].gate is None


def test_an_exhausted_product_refuses_until_its_reset_and_then_no_more() -> None:
    """The mark of one product says nothing of another one of the same vendor."""
    rig = RouterRig("codex-1", "gpt-5-1")
    until_ms = START_MS + HOUR_MS
    rig.hand_in(order(ModelExhausted, product="codex-cli", until=from_millis(until_ms)))
    found = look(rig)
    assert not found.well
    assert found.problems == (f"main: codex gets nothing new: codex-cli is exhausted until {from_millis(until_ms)}.",)
    assert [one.needs_person for one in found.attention] == [False], "it ends at its reset"
    assert model_of(found, "codex").exhausted_until == from_millis(until_ms)
    assert model_of(found, "gpt-5").exhausted_until is None
    later = look(rig, until_ms)
    assert later.well
    assert pool_of(later).exhausted == ()


def test_a_mark_of_one_account_leaves_the_other() -> None:
    """A model is used up only when every account of it is."""
    rig = RouterRig()
    rig.hand_in(slot("opus-1", account="a"), slot("opus-2", account="b"))
    rig.hand_in(order(ModelExhausted, model="opus", account="a", until=from_millis(START_MS + HOUR_MS)))
    opus = model_of(look(rig), "opus")
    assert [(cell.account, cell.gate) for cell in opus.cells] == [("a", "exhausted"), ("b", None)]
    assert opus.exhausted_until is None


def test_a_drained_model_is_shown_with_its_end() -> None:
    """For good, or until a moment."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(order(ModelDrained, model="opus"))
    assert model_of(look(rig), "opus").drained
    assert "main: opus gets nothing new: opus is drained." in look(rig).problems
    assert all(one.needs_person for one in look(rig).attention if "opus is drained." in one.says)
    assert [drain.until for drain in pool_of(look(rig)).drained] == [None]


def test_the_curve_shows_what_is_watched_and_what_is_refused() -> None:
    """At 83 % of the primary product its premium models are spared, the others are watched."""
    rig = RouterRig("opus-1", "haiku-1", "codex-1")
    used = {"provider": "anthropic", "product": "claude", "window": "5h"}
    rig.hand_in(order(QuotaUpdated, **used, utilisation=0.83, resets_at=from_millis(START_MS + HOUR_MS)))
    found = look(rig)
    (opus,), (haiku,) = model_of(found, "opus").cells, model_of(found, "haiku").cells
    assert (opus.gate, opus.usage) == ("quota", 0.83)
    assert (haiku.gate, haiku.flags) == (None, ("watching",))
    assert [(one.window, one.utilisation) for one in pool_of(found).quotas] == [("5h", 0.83)]
    later = look(rig, START_MS + HOUR_MS)
    assert later.well
    assert pool_of(later).quotas[0].utilisation == 0.0


def test_a_budget_that_is_used_up_needs_a_look() -> None:
    """Money is shown in dollars."""
    rig = RouterRig("haiku-1")
    rig.hand_in(order(BudgetCredited, tenant_id="acme", pool="main", amount_usd=2.5))
    assert look(rig).well
    assert pool_of(look(rig)).budgets[0].available_usd == 2.5
    rig.hand_in(BudgetCredited(
        control_id="c-2", at=rig.at, by="ops", tenant_id="acme", pool="main", amount_usd=-2.5
    ))  # fmt: skip
    assert look(rig).problems == ("main: tenant acme has $0.00 left of its budget.",)


def test_waiting_tasks_are_counted_by_reason() -> None:
    """A task that nothing is good enough for needs a look, one that waits for a slot does not."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), task("t-2"))
    assert look(rig).well
    assert pool_of(look(rig)).tasks.waiting_by_reason == {"capable_busy": 1}
    rig.hand_in(task("t-3", requires={"coding": 10}))
    assert look(rig).problems == ("main: 1 task waits that no model of the fleet is good enough for.",)


def test_one_pool_can_be_looked_at_alone() -> None:
    """What another pool of the partition has is left out."""
    rig = RouterRig("haiku-1")
    rig.hand_in(slot("opus-9", pool="other"))
    assert [one.pool for one in look(rig).pools] == ["main", "other"]
    assert [one.pool for one in look(rig, pool="other").pools] == ["other"]
    assert look(rig, pool="othre").problems == ("No pool othre is known: nothing there has slots, tasks or budgets.",)


def test_partitions_that_decide_by_different_rules_need_a_look() -> None:
    """So do workers whose files are not those here."""
    ours, theirs = RouterRig("haiku-1"), RouterRig("haiku-1", book=rulebook(premium={"ev_percentile": 0.6}))
    mixed = overview(
        {0: RecoveredPartition(router=ours.router), 1: RecoveredPartition(router=theirs.router)}, Millis(START_MS)
    )
    assert any("decide by different rules" in problem for problem in mixed.problems)
    foreign = overview({0: RecoveredPartition(router=ours.router, decided_by=("other", "files"))}, Millis(START_MS))
    assert any("decide by other files" in problem for problem in foreign.problems)
    assert not foreign.partitions[0].known


def test_marks_that_no_pool_has_yet_are_shown_with_the_partition() -> None:
    """A drain that was ordered before the first slot came is not lost from sight."""
    rig = RouterRig()
    rig.hand_in(order(ModelDrained, model="opus"))
    found = look(rig)
    assert found.pools == ()
    assert [drain.model for drain in found.partitions[0].drained] == ["opus"]


def test_a_worker_whose_clock_differs_from_the_brokers_is_named() -> None:
    """An hour ahead on two partitions, a moment on the third: one sentence, and none for the moment."""
    rig = RouterRig()
    ahead_ms = {0: HOUR_MS, 1: HOUR_MS + 200, 2: 800}
    found = overview(
        {number: RecoveredPartition(router=rig.router, clock_ahead_ms=ms) for number, ms in ahead_ms.items()},
        Millis(rig.now_ms),
    )
    assert found.problems == (
        "The clock of the worker of partition 0, 1 was 3600 s ahead of the broker's at its last tick: set both by NTP.",
    )


@pytest.mark.rule("amend.48")
def test_check_names_lost_slots_and_what_brings_them_back() -> None:
    """And how many tasks wait for nothing else."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"), task("b"), task("c"))
    rig.wait(1_800)
    found = look(rig)
    assert model_of(found, "haiku").cells[0].lost == ("haiku-1", "haiku-2")
    slots, tasks = found.problems
    assert slots.startswith("main: 2 slots of haiku lost, as a lease ran out: haiku-1, haiku-2. A slot comes back when")
    assert slots.endswith("slotwise retire haiku-1 --pool main")
    assert tasks == "main: 3 tasks wait that only lost slots could do."
