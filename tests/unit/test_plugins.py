"""What a plug-in says is kept, and whatever else it does costs its own answer and nothing more."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.decision import Advice
from streams.core.policy.plugins import PluginPolicy
from streams.core.policy.rulebook import Rulebook, RulebookError, load_rulebook
from streams.metrics import REGISTRY
from streams.plugins import Model, TaskPending
from streams.plugins.advisor import REASON_CHARS_MAX, Advisor, Plugins
from streams.plugins.installed import GROUPS, PluginError, Role
from streams.shipped import shipped
from tests.support.builders import task
from tests.support.partition_world import until
from tests.support.plugins import EXAMPLE, install, install_example

#: Long enough that no healthy call is ever too slow, on any machine.
PATIENT = "time_limit_s = 60.0\nbatch_limit_s = 60.0\n"
REFUSED = Advice(refused={"opus": "mine: Not that one."})
_made: list[Plugins] = []


class HandClock:
    """A clock that moves when a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now_s


def book(plugins: str, rest: str = "") -> Rulebook:
    """Give the rules of a policy with this `[plugins]` section."""
    return load_rulebook(shipped("catalog.toml"), f"{rest}\n[plugins]\n{plugins}")


def advisor(plugins: str, rest: str = "", clock: HandClock | None = None, **named: Any) -> Advisor:
    """Give who asks these plug-ins, found by name and not by entry point."""

    def load(role: Role, name: str) -> Any:
        if name not in named:
            raise PluginError(f"the {role} {name} is not installed")
        return named[name]

    _made.append(Plugins(load, *([clock] if clock else [])))
    asks = _made[-1].advisor(book(plugins, rest))
    assert asks is not None
    return asks


def no_opus(_task: TaskPending, model: Model) -> str | None:
    """Refuse opus."""
    return "Not that one." if model.id == "opus" else None


def raising(*_: Any) -> Any:
    """Raise."""
    raise ZeroDivisionError("on purpose")


def failures(role: str, plugin: str, kind: str) -> float:
    """Count what the metrics say so far."""
    labels = {"role": role, "plugin": plugin, "kind": kind}
    return REGISTRY.get_sample_value("router_plugin_failures_total", labels) or 0.0


@pytest.fixture(autouse=True)
def _no_threads_stay() -> Iterator[None]:
    """Let the threads of a test end with it."""
    yield
    while _made:
        _made.pop().close()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hanging plug-ins wait for; they are let go at the end."""
    event = threading.Event()
    yield event
    event.set()


# What stands -----------------------------------------------------------------------------------------------------


SCORES: dict[str, tuple[Any, Advice | None]] = {
    "a number": (12.5, Advice(ev=12.5)),
    "a whole number": (12, Advice(ev=12.0)),
    "a negative one": (-1, Advice(ev=-1.0)),
    "no opinion": (None, None),
    "not a number": (math.nan, Advice(failed=("mine",))),
    "infinity": (math.inf, Advice(failed=("mine",))),
    "more than a float holds": (10**400, Advice(failed=("mine",))),
    "a word": ("12", Advice(failed=("mine",))),
    "yes": (True, Advice(failed=("mine",))),
}


@pytest.mark.parametrize(("answer", "want"), SCORES.values(), ids=SCORES.keys())
async def test_a_scorer_answers_with_a_finite_number_or_none(answer: Any, want: Advice | None) -> None:
    """Anything else is as if it had not answered."""
    assert await advisor(f'scorer = "mine"\n{PATIENT}', mine=lambda _: answer).advise([task()]) == [want]


async def test_a_scorer_is_asked_about_tasks_that_bring_no_ev() -> None:
    """The producer's own word counts; the order of the tasks is kept."""
    mine = advisor(f'scorer = "mine"\n{PATIENT}', mine=lambda one: float(one.priority))
    said = await mine.advise([task(priority=1), task(ev=7.0), task(priority=3)])
    assert said == [Advice(ev=1.0), None, Advice(ev=3.0)]


RANKINGS: dict[str, tuple[Any, Advice]] = {
    "all models": (["haiku", "opus"], Advice(strategy="mine", ranking=("haiku", "opus"))),
    "one twice": (("haiku", "opus", "haiku"), Advice(strategy="mine", ranking=("haiku", "opus"))),
    "no preference": ([], Advice(strategy="mine")),
    "a model that there is not": (["haiku", "opsu"], Advice(failed=("mine",))),
    "a model's name alone": ("haiku", Advice(failed=("mine",))),
    "nothing": (None, Advice(failed=("mine",))),
    "what is no order": ({"haiku"}, Advice(failed=("mine",))),
    "what is no name": ([1], Advice(failed=("mine",))),
}


@pytest.mark.parametrize(("answer", "want"), RANKINGS.values(), ids=RANKINGS.keys())
async def test_a_strategy_answers_with_models_of_the_catalogue(answer: Any, want: Advice) -> None:
    """Anything else is as if it had not answered."""
    mine = advisor(f'strategies = ["mine"]\n{PATIENT}', '[strategy]\ndefault = "mine"', mine=lambda *_: answer)
    assert await mine.advise([task()]) == [want]


LANES = '[lane.docs]\nstrategy = "yours"\n[lane.bulk]\nstrategy = "cheapest_capable"\n'
CHOSEN = {
    "by default": ({}, "mine"),
    "in a lane with another": ({"lane": "docs"}, "yours"),
    "in a lane with a shipped one": ({"lane": "bulk"}, None),
    "in an unknown lane": ({"lane": "other"}, "mine"),
    "where the task names one": ({"strategy": "objective", "lane": "docs"}, None),
    "where the task's list may come to its end": ({"strategy": "preference", "lane": "docs"}, "mine"),
}


@pytest.mark.parametrize(("fields", "want"), CHOSEN.values(), ids=CHOSEN.keys())
async def test_a_strategy_is_asked_where_the_policy_names_it(fields: dict[str, Any], want: str | None) -> None:
    """Task before lane before default; the default also where a list of preference ends."""
    both = advisor(
        f'strategies = ["mine", "yours"]\n{PATIENT}',
        f'[strategy]\ndefault = "mine"\n{LANES}',
        mine=lambda *_: ["haiku"],
        yours=lambda *_: ["opus"],
    )
    (said,) = await both.advise([task(**fields)])
    assert (said.strategy if said else None) == want


SENTENCES: dict[str, tuple[Any, Advice | None]] = {
    "a sentence": ("Not that one.", REFUSED),
    "no objection": (None, None),
    "an empty one": ("", Advice(failed=("mine",))),
    "yes": (True, Advice(failed=("mine",))),
    "what no database takes": ("Not\x00that\ud800one.", REFUSED),
    "a very long sentence": ("x" * 10_000, Advice(refused={"opus": "mine: " + "x" * REASON_CHARS_MAX})),
}


@pytest.mark.parametrize(("answer", "want"), SENTENCES.values(), ids=SENTENCES.keys())
async def test_a_rule_refuses_a_model_with_a_sentence(answer: Any, want: Advice | None) -> None:
    """It goes with the rule's name, in a form that every reader of the journal can take."""
    mine = advisor(f'rules = ["mine"]\n{PATIENT}', mine=lambda _, model: answer if model.id == "opus" else None)
    assert await mine.advise([task()]) == [want]


async def test_all_rules_are_asked_and_the_first_that_refuses_is_named() -> None:
    """In the order of the policy."""
    both = advisor(
        f'rules = ["first", "second"]\n{PATIENT}',
        first=no_opus,
        second=lambda _, model: "Neither." if model.tier == 3 else None,
    )
    assert await both.advise([task()]) == [
        Advice(refused={"opus": "first: Not that one.", "gpt-5": "second: Neither."}),
    ]


async def test_what_is_kept_does_not_depend_on_who_answers_first(release: threading.Event) -> None:
    """The order of the policy decides which rule is named, and in which order those stand that failed."""

    def waits_for_the_other(_task: TaskPending, model: Model) -> str | None:
        release.wait()
        return no_opus(_task, model)

    def lets_it_go(_task: TaskPending, model: Model) -> str | None:
        if model.id == "local":
            release.set()
        return no_opus(_task, model)

    both = advisor(f'rules = ["first", "second"]\n{PATIENT}', first=waits_for_the_other, second=lets_it_go)
    assert await both.advise([task()]) == [Advice(refused={"opus": "first: Not that one."})]


@pytest.mark.rule("policy.plugins")
def test_where_the_policy_names_none_no_plug_in_is_asked() -> None:
    """There is nothing to pay for."""
    assert Plugins().advisor(book("")) is None


# What does not ---------------------------------------------------------------------------------------------------


class Unspeakable(Exception):
    """An exception that raises when it is printed."""

    def __repr__(self) -> str:
        raise RuntimeError


def leaves(*_: Any) -> Any:
    """Try to end the process."""
    raise SystemExit(3)


def unspeakable(*_: Any) -> Any:
    """Raise an exception that cannot be printed."""
    raise Unspeakable


def writes_in_the_task(one: TaskPending, _model: Model) -> str | None:
    """Change what is not its own."""
    one.requires["coding"] = 1
    return None


def writes_in_the_model(_task: TaskPending, model: Model) -> str | None:
    """Change what is not its own."""
    model.ratings["coding"] = 1
    return None


@pytest.mark.rule("plugin.advice")
@pytest.mark.parametrize("bad", [raising, leaves, unspeakable, writes_in_the_task, writes_in_the_model])
async def test_one_that_raises_costs_its_own_answer(bad: Callable[..., Any]) -> None:
    """The others stand, the task is as it was, and it is counted."""
    both = advisor(f'rules = ["bad", "mine"]\n{PATIENT}', bad=bad, mine=no_opus)
    before = failures("rule", "bad", "raised")
    one = task(requires={"coding": 9})
    assert await both.advise([one]) == [Advice(refused=REFUSED.refused, failed=("bad",))]
    assert one == task(requires={"coding": 9})
    assert failures("rule", "bad", "raised") == before + 1


async def test_one_that_hangs_is_left_behind(release: threading.Event) -> None:
    """Its first task is too slow; it is asked nothing more until it is back, by no second thread; others stand."""
    asked: list[str] = []

    def hanging(one: TaskPending, _model: Model) -> str | None:
        asked.append(one.task_id)
        release.wait()
        return None

    both = advisor('rules = ["hanging", "mine"]\ntime_limit_s = 1.0\nbatch_limit_s = 60.0\nfailures_max = 1000',
                   hanging=hanging, mine=no_opus)  # fmt: skip
    slow, unasked = failures("rule", "hanging", "slow"), failures("rule", "hanging", "unasked")
    want = Advice(refused=REFUSED.refused, failed=("hanging",))
    assert await both.advise([task("t-1"), task("t-2"), task("t-3")]) == [want] * 3
    assert await both.advise([task("t-4")]) == [want]
    assert asked == ["t-1"]
    assert failures("rule", "hanging", "slow") == slow + 1
    assert failures("rule", "hanging", "unasked") == unasked + 3
    assert [one.name for one in threading.enumerate() if one.name == "rule hanging"] == ["rule hanging"]
    release.set()
    said: Sequence[Advice | None] = [want]
    while said == [want]:
        said = await both.advise([task("t-5")])
        await asyncio.sleep(0.001)
    assert said == [Advice(refused=REFUSED.refused)]


async def test_an_answer_that_comes_too_late_counts_for_nothing(release: threading.Event) -> None:
    """Not for its own task, and not for the next."""
    first = threading.Event()

    def late(one: TaskPending) -> float:
        if not first.is_set():
            first.set()
            release.wait()
        return float(one.priority)

    mine = advisor('scorer = "mine"\ntime_limit_s = 0.3\nbatch_limit_s = 60.0\nfailures_max = 1000', mine=late)
    assert await mine.advise([task(priority=1), task(priority=2)]) == [Advice(failed=("mine",))] * 2
    release.set()
    said: Sequence[Advice | None] = [Advice(failed=("mine",))]
    while said == [Advice(failed=("mine",))]:
        said = await mine.advise([task(priority=3)])
        await asyncio.sleep(0.001)
    assert said == [Advice(ev=3.0)]


async def test_one_slow_call_is_one_failure_however_many_wait_for_it(release: threading.Event) -> None:
    """Partitions share a plug-in; a hiccup that all of them notice is no reason to leave it alone."""
    clock, began = HandClock(), threading.Event()

    def slow_once(one: TaskPending) -> float:
        if not began.is_set():
            began.set()
            release.wait()
        return float(one.priority)

    mine = advisor('scorer = "mine"\ntime_limit_s = 0.1\nbatch_limit_s = 60.0\nfailures_max = 2', clock=clock,
                   mine=slow_once)  # fmt: skip
    partitions = asyncio.gather(*(mine.advise([task()]) for _ in range(4)))
    await until(began.is_set)
    clock.now_s += 0.15
    assert await partitions == [[Advice(failed=("mine",))]] * 4
    release.set()
    said: Sequence[Advice | None] = [Advice(failed=("mine",))]
    while said == [Advice(failed=("mine",))]:
        said = await mine.advise([task(priority=3)])
        await asyncio.sleep(0.001)
    assert said == [Advice(ev=3.0)]


@pytest.mark.rule("policy.plugins")
async def test_together_they_hold_up_a_batch_no_longer_than_they_may() -> None:
    """Each call is within its limit, and still it ends; those not asked about go without."""
    clock = HandClock()

    def leisurely(one: TaskPending) -> float:
        clock.now_s += 0.04
        return float(one.priority)

    mine = advisor('scorer = "mine"\ntime_limit_s = 0.05\nbatch_limit_s = 0.5', clock=clock, mine=leisurely)
    said = await mine.advise([task(priority=place) for place in range(20)])
    assert said == [Advice(ev=float(place)) for place in range(13)] + [Advice(failed=("mine",))] * 7
    assert await mine.advise([task(priority=1)]) == [Advice(ev=1.0)], "it was slow, and did not fail"


async def test_after_too_many_failures_in_a_row_it_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once; after the pause one call shows whether it works again."""
    clock, asked, mended = HandClock(), [], threading.Event()

    def moody(one: TaskPending) -> float:
        asked.append(one.task_id)
        return 1.0 if mended.is_set() else raising()

    mine = advisor(f'scorer = "moody"\nfailures_max = 3\npause_s = 10.0\n{PATIENT}', clock=clock, moody=moody)
    failed = Advice(failed=("moody",))
    with caplog.at_level(logging.INFO, logger="streams.plugins"):
        assert await mine.advise([task(f"a-{n}") for n in range(5)]) == [failed] * 5
        assert asked == ["a-0", "a-1", "a-2"]
        clock.now_s += 9.9
        assert await mine.advise([task("b")]) == [failed]
        clock.now_s += 0.2
        assert await mine.advise([task("c-0"), task("c-1")]) == [failed] * 2
        assert asked[3:] == ["c-0"], "one more failure begins another pause"
        mended.set()
        clock.now_s += 10.0
        assert await mine.advise([task("d-0"), task("d-1")]) == [Advice(ev=1.0)] * 2
    warning, again = caplog.records
    assert warning.levelname == "WARNING"
    assert warning.getMessage().startswith(
        "the scorer moody failed 3 times in a row, the last time because it raised ZeroDivisionError('on purpose'): "
        "tasks are decided without it, and it is asked again every 10 s. Mend it"
    )
    assert "in moody" in warning.getMessage(), "its author sees where"
    assert again.getMessage() == "the scorer moody answers again"


async def test_failures_now_and_then_are_no_reason_to_leave_it_alone() -> None:
    """Only those in a row count."""
    mine = advisor(
        f'scorer = "mine"\nfailures_max = 2\n{PATIENT}', mine=lambda one: raising() if one.priority % 2 else 1.0
    )
    said = await mine.advise([task(priority=place) for place in range(50)])
    assert said == [Advice(failed=("mine",)) if place % 2 else Advice(ev=1.0) for place in range(50)]


# Installing ------------------------------------------------------------------------------------------------------


async def test_the_documented_example_can_be_installed_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its entry points, as pip leaves them."""
    install_example(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugins = Plugins()
    rules = book(
        f'scorer = "worth"\nstrategies = ["fastest_first"]\nrules = ["own_machines"]\n{PATIENT}',
        '[strategy]\ndefault = "fastest_first"',
    )
    plugins.check(rules)
    example = plugins.advisor(rules)
    assert example is not None
    bug, legal = await example.advise([task(task_type="bug", priority=50), task(layer="legal", ev=1.0)])
    plugins.close()
    assert bug is not None
    assert (bug.ev, bug.strategy, bug.refused, bug.failed) == (60.0, "fastest_first", {}, ())
    assert sorted(bug.ranking) == sorted(rules.models)
    assert legal is not None
    assert set(legal.refused) == {model.id for model in rules.catalog.model if not model.local}
    assert legal.refused["opus"].startswith("own_machines: Tasks of legal stay on our own machines")


def test_a_plug_in_that_cannot_be_used_stops_the_start_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each: not installed (and the nearest that is), raising when it is loaded, not to be called, twice."""
    install_example(tmp_path / "site")
    rules = {"slotwise.rules": {"number": "bad_ones:NUMBER", "lost": "bad_ones:nowhere", "own_machines": "bad_ones:f"}}
    install(tmp_path / "site", "bad_ones", rules, "NUMBER = 5\n\ndef f(task, model):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    named = book('scorer = "wroth"\nrules = ["number", "lost", "own_machines", "fine"]')
    with pytest.raises(RulebookError) as caught:
        Plugins().check(named)
    worth, number, lost, twice, fine = caught.value.problems
    assert worth == (
        "policy.toml: plugins: the scorer wroth is not installed: install the package whose entry point wroth is in "
        "the group slotwise.scorers (installed: worth). Did you mean worth?"
    )
    assert number == "policy.toml: plugins: the rule number (bad_ones:NUMBER) cannot be called: int."
    assert lost.startswith("policy.toml: plugins: the rule lost (bad_ones:nowhere) cannot be loaded: AttributeError(")
    assert twice == (
        "policy.toml: plugins: the rule own_machines is installed twice, by bad_ones and fleet_plugins: uninstall one."
    )
    assert "the rule fine is not installed" in fine


async def test_a_plug_in_of_an_activated_policy_that_is_not_installed_counts_as_failed() -> None:
    """The router goes on; the log and every decision say so."""
    mine = advisor(f'rules = ["mine", "lost"]\n{PATIENT}', mine=no_opus)
    assert await mine.advise([task()]) == [Advice(refused=REFUSED.refused, failed=("lost",))]


def test_the_page_about_plug_ins_is_correct() -> None:
    """Its groups, limits and metrics are those of the code, and its rule is the example's."""
    page = (EXAMPLE.parents[1] / "extending.md").read_text()
    assert set(re.findall(r"`(slotwise\.[a-z]+)`", page)) == set(GROUPS.values())
    told: dict[str, Any] = {}
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        told |= tomllib.loads(block)["plugins"]
    default = PluginPolicy()
    assert {key for key, value in told.items() if value == getattr(default, key)} == {
        "time_limit_s", "batch_limit_s", "failures_max", "pause_s",
    }  # fmt: skip
    assert told.keys() == set(PluginPolicy.__struct_fields__)
    names = {f"{metric.name}{'_total' * (metric.type == 'counter')}" for metric in REGISTRY.collect()}
    assert set(re.findall(r"`(router_[a-z_]+)`", page)) <= names
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = [line for line in (EXAMPLE / "fleet_plugins.py").read_text().splitlines() if line.strip()]
    assert [line for line in code.splitlines() if line.strip() and line not in example] == []


async def test_callers_at_the_same_time_get_their_own_answers_in_order() -> None:
    """Partitions share the plug-ins; each gets its own answers."""
    plugins = Plugins(lambda *_: lambda one: float(one.priority))
    rules = book(f'scorer = "mine"\n{PATIENT}')

    async def partition(start: int) -> bool:
        made = plugins.advisor(rules)
        assert made is not None
        said = await made.advise([task(priority=start + place) for place in range(20)])
        return said == [Advice(ev=float(start + place)) for place in range(20)]

    assert await asyncio.gather(*(partition(start) for start in range(0, 80, 20))) == [True] * 4
    plugins.close()
    await until(lambda: not any(one.name == "scorer shared" for one in threading.enumerate()))
