"""The answers of a policy's plug-ins about tasks, as one `Advice` each, with the plug-ins that failed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from msgspec.structs import replace

from schemas.decision import Advice
from schemas.events import TaskPending
from streams.core.policy.catalog import Model
from streams.core.policy.document import RulebookError, nearest
from streams.core.policy.rulebook import Rulebook
from streams.plugins.installed import PluginError, Role, load, named
from streams.plugins.runner import Call, Failed, InvalidAnswer, PluginRunner

#: A rule's sentence is cut here; it is in every decision about the task.
REASON_CHARS_MAX: Final = 500


class Plugins:
    """The plug-ins of a worker, each with its one thread, shared by all partitions."""

    def __init__(self, load: Callable[[Role, str], Any] = load, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock_s = clock_s
        self._runners: dict[tuple[Role, str], PluginRunner] = {}

    def check(self, rulebook: Rulebook) -> None:
        """Load the plug-ins that a policy names: at the start, where a mistake is still read.

        Raises:
            RulebookError: one sentence for each plug-in that cannot be used.
        """
        problems = []
        for role, name in named(rulebook.policy.plugins):
            try:
                self._runner(role, name).load()
            except PluginError as error:
                problems.append(f"policy.toml: plugins: {error}")
        if problems:
            raise RulebookError(problems)

    def advisor(self, rulebook: Rulebook) -> Advisor | None:
        """Return the advisor of this policy; None where it names no plug-in, so that it costs nothing."""
        if not rulebook.policy.plugins.any:
            return None
        return Advisor(rulebook, self._runner, self._clock_s)

    def close(self) -> None:
        """End the threads."""
        for runner in self._runners.values():
            runner.close()

    def _runner(self, role: Role, name: str) -> PluginRunner:
        runner = self._runners.get((role, name))
        if runner is None:
            runner = self._runners[role, name] = PluginRunner(role, name, self._load, self._clock_s)
        return runner


class Advisor:
    """Asks the plug-ins of one rulebook. They see copies that they cannot change."""

    def __init__(
        self, rulebook: Rulebook, runner: Callable[[Role, str], PluginRunner], clock_s: Callable[[], float]
    ) -> None:
        self._policy = rulebook.policy
        self._clock_s = clock_s
        limits = rulebook.policy.plugins
        models = tuple(_frozen_model(model) for model in rulebook.catalog.model)
        known = MappingProxyType({model.id: model.id for model in models})
        self._scorer = None if limits.scorer is None else runner("scorer", limits.scorer)
        self._strategies = {name: runner("strategy", name) for name in limits.strategies}
        self._rules = {name: runner("rule", name) for name in limits.rules}
        self._order: Call = partial(_ask_strategy, models, known)
        self._refusals: Call = partial(_ask_rule, models)

    async def advise(self, tasks: Sequence[TaskPending]) -> list[Advice | None]:
        """Return the advice about each task, in order; None: no answer."""
        limits = self._policy.plugins
        deadline_s = self._clock_s() + limits.batch_limit_s
        shown = [_frozen_task(task) for task in tasks]
        said: list[dict[str, Any]] = [{} for _ in tasks]
        asking: list[Coroutine[Any, Any, list[Any]]] = []
        #: The runner, the tasks, and what is done with an answer.
        asked: list[tuple[PluginRunner, Sequence[int], Callable[[dict[str, Any], Any], None]]] = []

        def ask(
            runner: PluginRunner, places: Sequence[int], call: Call, keep: Callable[[dict[str, Any], Any], None]
        ) -> None:
            if places:
                asking.append(runner.ask([shown[place] for place in places], call, limits, deadline_s))
                asked.append((runner, places, keep))

        if self._scorer is not None:
            unvalued = [place for place, task in enumerate(tasks) if task.ev is None]
            ask(self._scorer, unvalued, _ask_scorer, _keep_ev)
        for name, chosen in self._by_strategy(tasks).items():
            ask(self._strategies[name], chosen, self._order, partial(_keep_order, name))
        for name, runner in self._rules.items():
            ask(runner, range(len(tasks)), self._refusals, partial(_keep_refusals, name))
        # Kept in the order of the policy, not in that of the answers.
        for (runner, places, keep), answers in zip(asked, await asyncio.gather(*asking), strict=True):
            for place, answer in zip(places, answers, strict=True):
                if type(answer) is Failed:
                    said[place]["failed"] = (*said[place].get("failed", ()), runner.name)
                else:
                    keep(said[place], answer)
        return [Advice(**one) if one else None for one in said]

    def _by_strategy(self, tasks: Sequence[TaskPending]) -> dict[str, list[int]]:
        """Return places of the tasks whose strategy, or whose default after a list, is a plug-in's, by its name."""
        found: dict[str, list[int]] = {}
        for place, task in enumerate(tasks):
            name = self._policy.strategy_of(task)
            if name == "preference":
                name = self._policy.strategy.fallback
            if name in self._strategies:
                found.setdefault(name, []).append(place)
        return found


# In the plug-in's thread: call, and check the answer -------------------------------------------------------


def _ask_scorer(scorer: Any, task: TaskPending) -> float | None:
    answer = scorer(task)
    if answer is None:
        return None
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise InvalidAnswer(f"a number or None is expected, and it answered {answer!r}")
    ev = float(answer)
    if not math.isfinite(ev):
        raise InvalidAnswer(f"an expected value is finite, and it answered {ev}")
    return ev


def _ask_strategy(
    models: Sequence[Model], known: Mapping[str, str], strategy: Any, task: TaskPending
) -> tuple[str, ...]:
    answer = strategy(task, models)
    if isinstance(answer, str | bytes) or not isinstance(answer, Sequence):
        raise InvalidAnswer(f"a list of model ids is expected, and it answered {answer!r}")
    ranking: dict[str, None] = {}
    for model in answer:
        if not isinstance(model, str) or model not in known:
            raise InvalidAnswer(f"{model!r} is no model of the catalogue.{nearest(str(model), known)}")
        ranking[known[model]] = None
    return tuple(ranking)


def _ask_rule(models: Sequence[Model], rule: Any, task: TaskPending) -> dict[str, str]:
    refused = {}
    for model in models:
        answer = rule(task, model)
        if answer is None:
            continue
        if not isinstance(answer, str) or not answer:
            raise InvalidAnswer(f"a sentence or None is expected, and it answered {answer!r} about {model.id}")
        # It goes through JSON, Postgres and terminals; each of them refuses some characters.
        words = str.__str__(answer)[:REASON_CHARS_MAX]
        refused[model.id] = "".join(one if one.isprintable() else " " for one in words)
    return refused


# On the event loop: store an answer ------------------------------------------------------------------------------


def _keep_ev(said: dict[str, Any], ev: float | None) -> None:
    if ev is not None:
        said["ev"] = ev


def _keep_order(name: str, said: dict[str, Any], ranking: tuple[str, ...]) -> None:
    said["strategy"], said["ranking"] = name, ranking


def _keep_refusals(name: str, said: dict[str, Any], refused: Mapping[str, str]) -> None:
    """Add refusals; of several rules that refuse a model the first is named."""
    for model, reason in refused.items():
        said.setdefault("refused", {}).setdefault(model, f"{name}: {reason}")


def _frozen_task(task: TaskPending) -> TaskPending:
    return replace(task, requires=MappingProxyType(dict(task.requires)))


def _frozen_model(model: Model) -> Model:
    return replace(model, ratings=MappingProxyType(dict(model.ratings)))
