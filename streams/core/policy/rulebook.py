"""Catalogue and policy as one value, with the hashes that every decision carries.

A section of the policy belongs to the rule that reads it: a rule's thresholds are the fields of its struct. Loading
reports all mistakes of both documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from math import inf
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Struct

from schemas.decision import Percentiles, TaskRow
from schemas.events import TaskPending
from schemas.vocabulary import DIMENSIONS, Complexity, MicroUsd, Millis, Objective, Strategy, Word
from streams.core.policy.breaker import Breaker, BreakerPolicy
from streams.core.policy.catalog import PREMIUM_TIER, Catalog, Model
from streams.core.policy.complexity import CLASSES, ComplexityPolicy
from streams.core.policy.document import RulebookError, nearest, read
from streams.core.policy.lane_policy import LanePolicy
from streams.core.policy.objective import ObjectivePolicy
from streams.core.policy.plugins import PluginPolicy
from streams.core.policy.preference import StrategyPolicy
from streams.core.policy.retired import renew
from streams.core.policy.rules.boundary import BoundaryPolicy
from streams.core.policy.rules.floor import FloorPolicy
from streams.core.policy.rules.premium import PERCENTILE_ERROR, PremiumFloor
from streams.core.policy.rules.quota import QuotaPolicy
from streams.core.policy.score import ScorePolicy
from streams.core.policy.unfit import unfit_models, unfit_values
from streams.core.state.utilisation import SHORT_MS

Seconds = Annotated[float, Meta(gt=0.0, le=31_536_000.0)]


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Service order, ageing, and the allowance of announcements."""

    #: A waiting task gains one point of priority in this time.
    ageing_s_per_point: Seconds = 60.0
    #: Waits announced again because their headline changed: at most so many at once in a pool,
    announcements_max: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    #: and so many a second in the long run; the rest follow later.
    announcements_per_s: Annotated[float, Meta(gt=0.0, le=1_000.0)] = 100.0
    #: From so many points (priority and waiting) on a task is served beside lifted ones, and premium slots are open to
    #: it, so that it does not starve.
    patience_points: Annotated[int, Meta(ge=101, le=1_000_000)] = 150
    #: A task's `at` that is further behind counts as this old, so that no wrong clock buys a place in the line.
    at_behind_max_s: Seconds = 2_592_000.0
    #: Longest payload of a task, without space between its parts; it is in memory until the task ends.
    payload_bytes_max: Annotated[int, Meta(ge=0, le=131_072)] = 16_384


class EvPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The window of EVs, and how often percentiles are recomputed."""

    window_s: Seconds = 3_600.0
    #: They are recomputed after this time, or as soon as there are twice as many samples.
    recompute_s: Seconds = 120.0
    samples_min: Annotated[int, Meta(ge=1)] = 5
    score_cache_s: Seconds = 60.0


class Lift(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks may claim a higher tier than they need."""

    ev_percentile: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.90
    quest_priority_min: Annotated[int, Meta(ge=0, le=101)] = 95

    def lifts(self, ev: float | None, quest_priority: int, percentiles: Percentiles | None) -> bool:
        """Whether the task may claim a higher tier than it needs."""
        if quest_priority >= self.quest_priority_min:
            return True
        if ev is None or percentiles is None or percentiles.p90 is None:
            return False
        return ev > percentiles.p90 + abs(percentiles.p90) * PERCENTILE_ERROR


class Leases(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a lease lasts before its slot counts as lost, and how often it may be renewed for that long."""

    default_s: Seconds = 1_800.0
    by_complexity_s: dict[Complexity, Seconds] = {}
    #: A task may ask for a length of its own, up to this.
    asked_max_s: Seconds = 14_400.0
    renewals_max: Annotated[int, Meta(ge=0, le=100_000)] = 8
    renewals_by_complexity_max: dict[Complexity, Annotated[int, Meta(ge=0, le=100_000)]] = {}


class Output(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many tokens a task may answer."""

    default_tokens: Annotated[int, Meta(ge=1)] = 8_192
    #: An answer is shortened to what the prompt leaves of the window, down to so many tokens.
    tokens_min: Annotated[int, Meta(ge=1)] = 1_024
    headroom: Annotated[float, Meta(ge=1.0, le=100.0)] = 1.5
    by_complexity_tokens: dict[Complexity, Annotated[int, Meta(ge=1)]] = {}


class Attempts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a task is tried, and how long finished ids are remembered."""

    failures_max: Annotated[int, Meta(ge=1, le=100)] = 5
    #: Pause before the second attempt; it doubles from attempt to attempt, up to the second value.
    back_off_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 5.0
    back_off_max_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 300.0
    #: How long a product is marked exhausted that was overloaded and did not say until when.
    overload_pause_s: Annotated[float, Meta(ge=0.001, le=86_400.0)] = 60.0
    finished_memory_s: Seconds = 86_400.0


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All thresholds and tables of the policy."""

    service: Service = Service()
    ev: EvPolicy = EvPolicy()
    premium: PremiumFloor = PremiumFloor()
    lift: Lift = Lift()
    leases: Leases = Leases()
    output: Output = Output()
    attempts: Attempts = Attempts()
    #: Lowest tier for a task of that class.
    complexity_tier_min: dict[Complexity, Annotated[int, Meta(ge=1, le=3)]] = {}
    complexity: ComplexityPolicy = ComplexityPolicy()
    objective: ObjectivePolicy = ObjectivePolicy()
    score: ScorePolicy = ScorePolicy()
    strategy: StrategyPolicy = StrategyPolicy()
    #: By name of the lane; a lane that is not listed has no settings of its own.
    lane: dict[Word, LanePolicy] = {}
    plugins: PluginPolicy = PluginPolicy()
    boundary: BoundaryPolicy = BoundaryPolicy()
    floor: FloorPolicy = FloorPolicy()
    quota: QuotaPolicy = QuotaPolicy()
    breaker: BreakerPolicy = BreakerPolicy()

    def lane_of(self, name: str | None) -> LanePolicy | None:
        """Return the settings of the lane of that name, if it has any."""
        return self.lane.get(name) if name is not None else None

    def class_tier_min(self, name: Complexity, *, gave_way: bool = False) -> int:
        """Return the bar of a class: the lowest tier for its tasks.

        Where it has given way to credit: the highest lower bar of an easier class; a class without one keeps its own.
        """
        bar = self.complexity_tier_min.get(name, 1)
        if not gave_way:
            return bar
        easier = (self.complexity_tier_min.get(one, 1) for one in CLASSES[: CLASSES.index(name)])
        return max((tier for tier in easier if tier < bar), default=bar)

    def strategy_of(self, task: TaskPending) -> str:
        """Return the strategy by which the task's slot is chosen."""
        lane = self.lane_of(task.lane)
        return self.strategy.resolve(task, lane.strategy if lane is not None else None)

    def objective_of(self, task: TaskPending, complexity: Complexity | None) -> Objective:
        """Return the objective of the task's score."""
        lane = self.lane_of(task.lane)
        return self.objective.resolve(task, complexity, lane.objective if lane is not None else None)

    def mistakes(self) -> Iterator[str]:
        """Return mistakes that concern more than one value: key and sentence."""
        for section in ("breaker", "complexity", "score", "plugins"):
            yield from (f"{section}.{mistake}" for mistake in getattr(self, section).mistakes())
        strategies = (*get_args(Strategy), *self.plugins.strategies)
        named = [("strategy.default", self.strategy.default)]
        named += [(f"lane.{name}.strategy", lane.strategy) for name, lane in self.lane.items() if lane.strategy]
        for key, strategy in named:
            if strategy not in strategies:
                near = nearest(strategy, strategies)
                yield f"{key}: {strategy} is no shipped strategy, and no plug-in of plugins.strategies.{near}"

    def models_named(self) -> Iterator[tuple[str, str]]:
        """Return every key that names a model of the catalogue, with the model id."""
        yield from (("score.bias", model) for model in self.score.bias)
        for kind, models in self.strategy.preference.items():
            yield from ((f"strategy.preference.{kind}", model) for model in models)
        for name, lane in self.lane.items():
            yield from ((f"lane.{name}.allow_models", model) for model in lane.allow_models)
            yield from ((f"lane.{name}.exclude_models", model) for model in lane.exclude_models)
        yield from (("boundary.exclude_models", model) for model in self.boundary.exclude_models)
        yield from ((f"floor.by_role.{role}", model) for role, model in self.floor.by_role.items())

    def products_named(self) -> Iterator[tuple[str, str]]:
        """Return every key that names a product of the catalogue, with the product."""
        for i, step in enumerate(self.quota.step, 1):
            yield f"quota.step[{i}].usage_of", step.usage_of
            yield from ((f"quota.step[{i}].refuse", refused.product) for refused in step.refuse)


class Rulebook:
    """A catalogue and a policy, checked and ready for use."""

    def __init__(
        self, catalog: Catalog, policy: Policy, *, catalog_text: str | None = None, policy_text: str | None = None
    ) -> None:
        self.catalog = catalog
        self.policy = policy
        #: The texts it was read from; None: it was not read from texts.
        self.catalog_text = catalog_text
        self.policy_text = policy_text
        self.models: dict[str, Model] = {model.id: model for model in catalog.model}
        #: Position in the catalogue; the order of models wherever there is no other.
        self.rank: dict[str, int] = {model.id: i for i, model in enumerate(catalog.model)}
        self.catalog_hash = _content_hash(catalog)
        self.policy_hash = _content_hash(policy)
        #: A prompt of at most so many tokens fits every model, with an answer that may be shortened.
        self.input_tokens_safe = min(
            min(model.longest_input, model.context_window - min(model.output_tokens_max, policy.output.tokens_min))
            for model in catalog.model
        )
        tariffs = [model.tariff for model in catalog.model]
        rates = [one for tariff in tariffs for one in tariff.known()]
        #: The highest prices of the catalogue at any length and time, and the highest fee, for upper bounds of cost.
        self._dearest = (
            max((one.input for one in rates), default=0.0),
            max((one.answer for one in rates), default=0.0),
            max(tariff.fee_uusd for tariff in tariffs),
        )
        #: Lengths above which some model has other prices.
        self.price_lengths = sorted({step.above_input_tokens for model in catalog.model for step in model.price_steps})
        self.has_fees = any(tariff.fee_uusd for tariff in tariffs)
        self._timed = [model.tariff for model in catalog.model if model.price_hours]
        #: product -> provider, and the models whose usage counts for it.
        self.products: dict[str, str] = {model.product: model.provider for model in catalog.model}
        #: Roles that some model has; only these can earn a bonus.
        self.roles = frozenset(role for model in catalog.model for role in model.roles)
        #: A prompt of at most so many tokens has no context penalty on any model, with the longest answer.
        self.input_tokens_roomy = min(
            int(model.context_window * policy.score.context_from_share) - model.output_tokens_max
            for model in catalog.model
        )
        #: The model that "always premium" would use.
        self.premium = next((model for model in catalog.model if model.tier == PREMIUM_TIER), None)
        self.ageing_ms = max(1, round(policy.service.ageing_s_per_point * 1000))
        self.recompute_ms = round(policy.ev.recompute_s * 1000)
        self.announcement_ms = max(1, round(1000 / policy.service.announcements_per_s))
        #: Finding tasks to announce costs as much as announcing them, so it is done for at least a second's allowance.
        self.announcements_min = max(1, min(policy.service.announcements_max, 1000 // self.announcement_ms))
        #: The busy time, of the last 5 min, that makes a step of use.
        self.use_step_ms = round(SHORT_MS * policy.strategy.utilisation_step_share)
        self.patience_points = policy.service.patience_points
        self._at_behind_ms = round(policy.service.at_behind_max_s * 1000)
        self.ev_window_ms = round(policy.ev.window_s * 1000)
        self.memory_ms = round(policy.attempts.finished_memory_s * 1000)
        self.unknown_reset_ms = round(policy.quota.unknown_reset_s * 1000)
        self.overload_pause_ms = round(policy.attempts.overload_pause_s * 1000)
        self.breaker = Breaker(policy.breaker)

    def arrival_ms(self, at_ms: Millis, now_ms: Millis) -> Millis:
        """Return the time from which a task of this `at` counts: never after `now`, and never too far behind it."""
        return Millis(min(max(at_ms, now_ms - self._at_behind_ms), now_ms))

    def patient_ms(self, row: TaskRow) -> Millis:
        """Return the time at which the task reaches `patience_points`, if it waits that long."""
        return Millis(row.status.since_ms + (self.patience_points - row.task.priority) * self.ageing_ms)

    def back_off_ms(self, failures: int) -> int:
        """Return the pause after so many failures: it doubles with each, up to the policy's bound."""
        attempts = self.policy.attempts
        most_s = max(attempts.back_off_s, attempts.back_off_max_s)
        return round(min(attempts.back_off_s * 2.0 ** (failures - 1), most_s) * 1000)

    def lease_ms(self, complexity: Complexity | None, asked_s: float | None = None) -> Millis:
        """Return how long a task's lease lasts, as it asks within the policy's bound, else by its class."""
        leases = self.policy.leases
        if asked_s is not None:
            return Millis(round(min(asked_s, leases.asked_max_s) * 1000))
        limit_s = leases.by_complexity_s.get(complexity, leases.default_s) if complexity else leases.default_s
        return Millis(round(limit_s * 1000))

    def renewals_max(self, complexity: Complexity | None) -> int:
        """Return how often a task's lease may be renewed, by its class."""
        leases = self.policy.leases
        return (
            leases.renewals_by_complexity_max.get(complexity, leases.renewals_max)
            if complexity
            else leases.renewals_max
        )

    def complexity(self, task: TaskPending) -> Complexity | None:
        """Return the task's class, given or by the table."""
        if task.complexity is not None or task.agent_role is None:
            return task.complexity
        return self.policy.complexity.classify(task)

    def output_tokens(self, task: TaskPending, complexity: Complexity | None, model: Model) -> int:
        """Return the expected tokens of the model's answer."""
        return expected_output(task, self.answer_tokens(task, complexity, model))

    def cost_uusd(
        self, task: TaskPending, complexity: Complexity | None, model: Model, at_ms: Millis
    ) -> MicroUsd | None:
        """Return the estimated cost of the task on this model at that time; None where a price is unknown."""
        return model.tariff.estimate_uusd(task.input_tokens, self.output_tokens(task, complexity, model), at_ms)

    def costs_uusd(
        self, task: TaskPending, complexity: Complexity | None, models: Iterable[Model], at_ms: Millis
    ) -> tuple[MicroUsd | None, ...]:
        """Return the same for each of these models; the class's limit is looked up once."""
        most, tokens = self.max_tokens(complexity, task.output_tokens), task.input_tokens
        return tuple(
            [
                model.tariff.estimate_uusd(tokens, expected_output(task, self._fitting(most, tokens, model)), at_ms)
                for model in models
            ]
        )

    def cost_max_uusd(self, task: TaskPending, complexity: Complexity | None) -> int:
        """Return an upper bound of the task's cost on any model."""
        dearest_in, dearest_out, fee_uusd = self._dearest
        most = self.max_tokens(complexity, task.output_tokens)
        tokens = expected_output(task, most)
        return int(task.input_tokens * dearest_in + tokens * dearest_out + fee_uusd) + 1

    def prices_change_ms(self, after_ms: Millis) -> float:
        """Return when a price of the catalogue changes next by the time alone."""
        return min([tariff.next_change_ms(after_ms) for tariff in self._timed]) if self._timed else inf

    def answer_tokens(self, task: TaskPending, complexity: Complexity | None, model: Model) -> int:
        """Return the most output tokens of the task on this model: what its input leaves of the window, if it is less.

        An answer is not shortened below the policy's `tokens_min`; the gate `context` then refuses the model.
        """
        return self._fitting(self.max_tokens(complexity, task.output_tokens), task.input_tokens, model)

    def _fitting(self, most: int, input_tokens: int, model: Model) -> int:
        most = min(most, model.output_tokens_max)
        room = model.context_window - input_tokens
        return most if most <= room else max(room, min(most, self.policy.output.tokens_min))

    def max_tokens(self, complexity: Complexity | None, output_tokens: int | None) -> int:
        """Return the most output tokens of the task, before the limits of a model."""
        output = self.policy.output
        if complexity is not None and complexity in output.by_complexity_tokens:
            return output.by_complexity_tokens[complexity]
        if output_tokens is not None:
            return max(1, int(output_tokens * output.headroom))
        return output.default_tokens


def expected_output(task: TaskPending, most: int) -> int:
    """Return the expected output tokens of the task, given the most that are allowed."""
    return most if task.output_tokens is None else min(task.output_tokens, most)


def load_rulebook(
    catalog_text: str,
    policy_text: str,
    *,
    catalog_file: str = "catalog.toml",
    policy_file: str = "policy.toml",
    inherited: Collection[str] = (),
    recorded: bool = False,
) -> Rulebook:
    """Return the rulebook of two TOML texts; `recorded` texts, from a journal, are held to what was asked of them then.

    `inherited`: the keys of the policy that its file leaves out and that have the shipped values.

    Raises:
        RulebookError: one sentence for each mistake in either text, with file and key.
    """
    problems: list[str] = []
    catalog = policy = None
    try:
        catalog = read(catalog_text, Catalog, catalog_file)
        problems += _check_catalog(catalog, catalog_file)
        if not recorded:
            problems += [f"{catalog_file}: {problem}" for problem in (*unfit_values(catalog), *unfit_models(catalog))]
    except RulebookError as error:
        problems += error.problems
    try:
        policy = read(policy_text, Policy, policy_file, renew=renew if recorded else None)
        problems += _check_policy(policy, catalog, policy_file, inherited)
        if not recorded:
            problems += [f"{policy_file}: {problem}" for problem in unfit_values(policy)]
    except RulebookError as error:
        problems += error.problems
    if problems or catalog is None or policy is None:
        raise RulebookError(problems)
    return Rulebook(catalog, policy, catalog_text=catalog_text, policy_text=policy_text)


def _check_catalog(catalog: Catalog, file: str) -> list[str]:
    problems = []
    seen: set[str] = set()
    for model in catalog.model:
        where = f"{file}: model[{model.id}]"
        if model.id in seen:
            problems.append(f"{where}: this id stands there twice; ids are unique.")
        seen.add(model.id)
        problems.extend(
            f"{where}.ratings: {dimension} is missing; every model is rated on all six."
            for dimension in DIMENSIONS
            if dimension not in model.ratings
        )
        problems.extend(f"{where}.{mistake}" for mistake in model.mistakes())
    return problems


def _check_policy(policy: Policy, catalog: Catalog | None, file: str, inherited: Collection[str]) -> list[str]:
    problems = [f"{file}: {mistake}" for mistake in policy.mistakes()]
    if catalog is not None:
        models = dict.fromkeys(model.id for model in catalog.model)
        problems += _unknown("model", policy.models_named(), models, file, inherited)
        products = dict.fromkeys(model.product for model in catalog.model)
        problems += _unknown("product", policy.products_named(), products, file, inherited)
    return problems


def _unknown(
    what: str, named: Iterable[tuple[str, str]], known: Collection[str], file: str, inherited: Collection[str]
) -> list[str]:
    """Return a sentence for each name that the catalogue lacks, and one for all of a table that is inherited."""
    problems = []
    shipped: dict[str, dict[str, None]] = {}
    for key, name in named:
        section, table = (*re.split(r"[.\[]", key), "")[:2]
        if name in known:
            continue
        if section in inherited or f"{section}.{table}" in inherited:
            shipped.setdefault(f"[{section}] {table} = {'[]' if '[' in key else '{}'}", {})[name] = None
        else:
            problems.append(f"{file}: {key}: {name} is no {what} of the catalogue.{nearest(name, known)}")
    problems.extend(
        f"{file}: {none.partition(' =')[0]} is left out, so it is as shipped, and names what is no {what} of the "
        f"catalogue: {', '.join(names)}. Write it for your catalogue, or have none: {none}"
        for none, names in shipped.items()
    )
    return problems


def _content_hash(document: Any) -> str:
    """Return sixteen hex digits of SHA-256 over the values; comments and order of keys do not matter."""
    canonical = msgspec.json.encode(document, order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


__all__ = ["Policy", "Rulebook", "RulebookError", "load_rulebook"]
