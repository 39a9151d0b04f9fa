"""What work would take, and how it would end, on a model that may be another than the recorded one.

`fitted`: a task takes as long on another model as such work does there, times what it took on its own model more or
less than such work does. On its own model it takes what was recorded; of one that was never worked on, that multiple is
drawn from those of the record, by the task's name. Whether it fails follows the failure rates of both models and one
chance for both, drawn from the task's name. `recorded`: every attempt takes and ends as recorded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Literal, Protocol, Self, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Decision
from schemas.events import Outcome, TaskPending
from schemas.vocabulary import OVERLOADED
from streams.core.policy.rulebook import Rulebook
from streams.estimate.service_time import Observation, ServiceTimes, TooFewOutcomes
from streams.estimate.success import Ending, FailureRates
from streams.replay.recording import Recording
from streams.replay.work_seen import WorkSeen, work_kind

Times: TypeAlias = Literal["fitted", "recorded"]


class Work(Struct, frozen=True):
    """A piece of work: how long its slot is taken, and the outcome that it reports."""

    taken_ms: int
    outcome: Outcome


class Works(Protocol):
    """Says what work comes to."""

    def work(self, task: TaskPending, decision: Decision) -> Work | None:
        """Return the work that a decision begins; None: its end is said otherwise."""


class WorkModel:
    """What the record says of work."""

    def __init__(self, ended: Sequence[WorkSeen], times: Times, *, same_prices: bool) -> None:
        """`same_prices`: the replay charges by the catalogue of the record, so that costs are as they were reported.

        Raises:
            TooFewOutcomes: too little work ended to fit times to, or none at all.
        """
        if not ended:
            raise TooFewOutcomes("No work ended in what was recorded, so how long work takes is not known.")
        self._attempts: dict[tuple[str, str], dict[int, WorkSeen]] = defaultdict(dict)
        for one in ended:
            self.learn(one)
        #: Models whose work was recorded.
        self.models = {one.model for one in ended}
        self._same_prices = same_prices
        self._fitted = ServiceTimes(observations(ended)) if times == "fitted" else None
        self._failures = FailureRates(_ending(one) for one in ended if not _is_overload(one.outcome))
        self._middle_ms = round(median(one.taken_ms for one in ended))
        qualities: defaultdict[str, list[float]] = defaultdict(list)
        for one in ended:
            if one.outcome.quality is not None and one.outcome.status == "success":
                qualities[one.model].append(one.outcome.quality)
        self._qualities = {model: fmean(some) for model, some in qualities.items()}

    @classmethod
    def of(cls, recordings: Sequence[Recording], rulebook: Rulebook, times: Times) -> Self:
        """Give what these windows say of work, for a replay under a rulebook.

        Raises:
            TooFewOutcomes: as above.
        """
        catalogs = {step.catalog for one in recordings for step in one.steps}
        ended = [work.seen for one in recordings for work in one.ended]
        return cls(ended, times, same_prices=catalogs == {rulebook.catalog_hash})

    def learn(self, seen: WorkSeen) -> None:
        """Take how an attempt of a task was seen to end; of one attempt the first end counts."""
        self._attempts[seen.pool, seen.task_id].setdefault(seen.attempt, seen)

    def forget(self, pool: str, task_id: str) -> None:
        """Forget how attempts of a task ended."""
        self._attempts.pop((pool, task_id), None)

    def learned(self, pool: str, task_id: str) -> list[WorkSeen]:
        """Return how attempts of a task were seen to end."""
        return list(self._attempts.get((pool, task_id), {}).values())

    def work(self, task: TaskPending, decision: Decision) -> Work:
        """Return the work that a decision begins."""
        attempts = self._attempts.get((task.pool, task.task_id), {})
        recorded = attempts.get(decision.attempt)
        like = recorded or (attempts[max(attempts)] if attempts else None)
        model, kind = decision.chosen_model or "", work_kind(decision)
        if self._fitted is None:
            if recorded is not None:
                return Work(recorded.taken_ms, self.as_recorded(recorded, model))
            return Work(like.taken_ms if like else self._middle_ms, self._new(task, decision, like))
        size = _size(like, task)
        ms = 1000 * self._fitted.seconds(model, kind, size)
        if like is not None:
            own = like.model
            ms = like.taken_ms if own == model else ms * like.taken_ms / (1000 * self._fitted.seconds(own, kind, size))
        else:
            ms *= self._fitted.deviation(1 + int(100 * chance(task, decision.attempt, "time")))
        outcome = self._new(task, decision, like)
        if recorded is not None and recorded.model == model:
            outcome = self.as_recorded(recorded, model)
        elif recorded is not None and not _is_overload(recorded.outcome):
            failed = self._failures.fails(_ending(recorded), model, chance(task, decision.attempt))
            outcome = self._ended(outcome, failed=failed, like=recorded)
        return Work(max(1, round(ms)), outcome)

    def as_recorded(self, recorded: WorkSeen, model: str) -> Outcome:
        """Return the recorded outcome; its cost holds on its model and at its prices only."""
        outcome = recorded.outcome
        return outcome if self._same_prices and model == recorded.model else replace(outcome, cost_usd=None)

    def _new(self, task: TaskPending, decision: Decision, like: WorkSeen | None) -> Outcome:
        """Return the outcome of an attempt that was never made, with the tokens of one that was."""
        seen = like.outcome if like is not None else None
        model = decision.chosen_model or ""
        failed = chance(task, decision.attempt) < self._failures.rate(model, work_kind(decision))
        outcome = Outcome(
            task_id=task.task_id,
            status="success",
            input_tokens=seen.input_tokens if seen is not None else None,
            output_tokens=seen.output_tokens if seen is not None else None,
            cached_input_tokens=seen.cached_input_tokens if seen is not None else None,
            reasoning_tokens=seen.reasoning_tokens if seen is not None else None,
            quality=self._qualities.get(model),
        )
        return self._ended(outcome, failed=failed, like=like)

    def _ended(self, outcome: Outcome, *, failed: bool, like: WorkSeen | None) -> Outcome:
        if not failed:
            return replace(outcome, status="success", error_class=None)
        word = like.outcome.error_class if like is not None else None
        return replace(outcome, status="failure", quality=None, error_class=None if word in OVERLOADED else word)


def observations(ended: Sequence[WorkSeen]) -> list[Observation]:
    """Return what service times are fitted to: work that ended, but for what the vendor did not take."""
    return [
        Observation(one.model, one.kind, one.outcome.output_tokens, one.taken_ms / 1000)
        for one in ended
        if not _is_overload(one.outcome)
    ]


def chance(task: TaskPending, attempt: int, of: str = "") -> float:
    """Return a number from 0 up to 1 that depends on the task's name, the attempt and the word alone."""
    digest = hashlib.blake2b(f"{task.pool}/{task.task_id}/{attempt}{of}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64


def _ending(one: WorkSeen) -> Ending:
    return Ending(one.model, one.kind, one.outcome.status == "failure")


def _is_overload(outcome: Outcome) -> bool:
    return outcome.status == "failure" and outcome.error_class in OVERLOADED


def _size(like: WorkSeen | None, task: TaskPending) -> float | None:
    tokens = like.outcome.output_tokens if like is not None else None
    return tokens if tokens is not None else task.output_tokens
