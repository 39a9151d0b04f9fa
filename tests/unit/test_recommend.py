"""A recommendation is the router's own answer, and leaves no trace."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from schemas.vocabulary import Millis
from streams.core.policy.rulebook import load_rulebook
from streams.operate.recommend import (
    Recommendation,
    RecommendError,
    bars,
    fields_of,
    offline_router,
    others,
    recommendation,
    type_note,
)
from streams.plugins.advisor import Plugins
from streams.settings import Settings
from streams.shipped import shipped
from tests.support.builders import task
from tests.support.router_rig import RouterRig, picture


def ask(rig: RouterRig, **fields: Any) -> Recommendation:
    """Ask about a task with these fields."""
    return asyncio.run(recommendation(rig.router, "main", fields, Millis(rig.now_ms)))


def test_it_is_what_the_router_then_decides() -> None:
    """Model, slot and reason are those of the decision that follows."""
    rig = RouterRig("haiku-1", "sonnet-1", "opus-1")
    told = ask(rig, requires={"coding": 7})
    rig.hand_in(task("t-1", requires={"coding": 7}))
    (decided,) = rig.decisions("t-1")
    assert (told.outcome, told.model, told.slot_id) == ("routed", "sonnet", decided.chosen_slot_id)
    assert told.reason == decided.reason
    assert {model: verdict.gate for model, verdict in told.alternatives.items()} == {
        "opus": "ok", "sonnet": "chosen", "haiku": "capability"
    }  # fmt: skip


def test_asking_changes_nothing() -> None:
    """The snapshot is the same after it, byte for byte."""
    rig = RouterRig("haiku-1")
    before = picture(rig.router)
    ask(rig)
    assert picture(rig.router) == before


def test_plug_ins_are_asked_as_a_worker_would() -> None:
    """What a rule of one's own refuses is refused here too."""
    policy = f"{shipped('policy.toml').partition('[plugins]')[0]}[plugins]\nrules = ['mine']\n"
    rig = RouterRig("haiku-1", "sonnet-1", book=load_rulebook(shipped("catalog.toml"), policy))
    refuses_haiku = lambda _task, model: "Not that one." if model.id == "haiku" else None  # noqa: E731
    plugins = Plugins(load=lambda _role, _name: refuses_haiku)
    told = asyncio.run(recommendation(rig.router, "main", {}, Millis(rig.now_ms), plugins))
    assert (told.model, told.alternatives["haiku"].gate) == ("sonnet", "boundary")


def test_what_would_wait_says_why_and_at_which_place() -> None:
    """Behind those who wait already."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("t-1"), task("t-2"))
    told = ask(rig, priority=10)
    assert (told.outcome, told.reason_code, told.position) == ("waiting", "capable_busy", 2)
    assert told.model is None


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({"complexity": "hard"}, "complexity", id="a word out of its list"),
        pytest.param({"floor_model": "opsu"}, "Did you mean opus", id="a model that is not there"),
        pytest.param({"priority": 200}, "priority", id="a number out of its range"),
    ],
)
def test_a_task_that_the_router_would_refuse_is_refused(fields: dict[str, object], want: str) -> None:
    """The reason is the router's own sentence."""
    with pytest.raises(RecommendError, match=want):
        ask(RouterRig("haiku-1"), **fields)


def test_offline_every_model_of_the_catalogue_has_a_free_slot() -> None:
    """A fleet to try a policy on before there is one."""
    router, pool = offline_router(Settings())
    told = asyncio.run(recommendation(router, pool, {"task_type": "debug"}, router.now_ms))
    assert told.outcome == "routed"
    assert set(told.alternatives) == set(router.rulebook.models)


def test_bars_are_read_with_commas_and_repeated() -> None:
    """`a=1,b=2` and repeated options are read alike."""
    assert bars(["coding=8, safety=9", "speed=3"]) == {"coding": 8, "safety": 9, "speed": 3}
    assert bars([]) == {}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("coding", "says no bar", id="no bar"),
        pytest.param("coding=high", "says no bar", id="a word for a bar"),
        pytest.param("codign=8", "Did you mean coding", id="a rating that is not there"),
    ],
)
def test_bars_that_say_nothing_are_refused(text: str, want: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(RecommendError, match=want):
        bars([text])


def test_other_fields_are_json_or_text() -> None:
    """Whatever a task may say can be asked about."""
    assert others(["has_revision_history=true", "context_richness=0.4", "profile=strong"]) == {
        "has_revision_history": True, "context_richness": 0.4, "profile": "strong"
    }  # fmt: skip
    with pytest.raises(RecommendError, match="Did you mean context_richness"):
        others(["context_richnes=0.4"])
    told = ask(RouterRig("haiku-1"), **others(['deny_providers=["anthropic"]']))
    assert told.alternatives["haiku"].gate == "boundary"


def test_only_what_was_said_stands_in_the_task() -> None:
    """An option that is not given leaves the field to its default."""
    assert fields_of(ev=None, requires={}, local_only=False, priority=0) == {"priority": 0}


@pytest.mark.parametrize(
    ("task_type", "strategy", "says"),
    [
        ("debgu", "cheapest_capable", r"task_type debgu is in no list of the policy. Did you mean debug\?"),
        ("code", "cheapest_capable", r"The list of task_type code \(codex, .*\) was not asked: the strategy is cheap"),
        ("code", "preference", None),
    ],
)
def test_a_type_of_work_that_chose_no_model_is_noted(task_type: str, strategy: str, says: str | None) -> None:
    """Nothing knows it, or the strategy asks no list."""
    note = type_note(task_type, strategy, load_rulebook(shipped("catalog.toml"), shipped("policy.toml")))
    assert note is None if says is None else re.match(says, note or "")
