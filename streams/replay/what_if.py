"""What a recorded window would have come to under other rules: both courses, what changed, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from schemas.decision import Decision
from streams.core.policy.rulebook import Rulebook
from streams.errors import MISTAKE, SlotwiseError
from streams.estimate.cross_validation import TimesError, cross_validated
from streams.estimate.logged_choice import LoggedChoice
from streams.estimate.off_policy import Estimates, estimates
from streams.estimate.service_time import TooFewOutcomes
from streams.estimate.support import refusal
from streams.replay.changed import Changed, changes, first_choices
from streams.replay.continued import ReplayRefused, continued
from streams.replay.following import following
from streams.replay.recording import Key, Recording
from streams.replay.side import Course, Side, side_of
from streams.replay.work_model import Times, WorkModel, Works, observations
from streams.replay.work_seen import WorkSeen, work_kind

#: Stands for the choice to let a task wait.
_WAITS = "(waits)"


class NothingRecorded(SlotwiseError):
    """The window holds no decision that routed a task; the message says what it holds."""

    exit_code = MISTAKE


class Rules(Struct, frozen=True, kw_only=True):
    """Hashes of a policy and a catalogue."""

    policy: str
    catalog: str


class WhatIf(Struct, frozen=True, kw_only=True):
    """The answer."""

    #: The window in milliseconds since the epoch: its first and its last step.
    from_ms: int
    to_ms: int
    partitions: int
    steps: int
    tasks: int
    #: By which the recorded decisions were made, and by which the replayed ones.
    recorded_rules: list[Rules]
    replayed_rules: Rules
    #: Slots by model in every pool in place of the recorded ones; None: those.
    fleet: dict[str, int] | None
    times: Times | Literal["catalogue"]
    #: Error of the service times on work that they were not fitted to; None: recorded times were used.
    times_error: TimesError | None
    recorded: Side
    replayed: Side
    #: Tasks with another model, and those of them that the rules alone change, in the recorded situation too; None: the
    #: recorded situations are not known, or cannot be had under these rules.
    changed: int
    changed_directly: int | None
    #: Changed tasks by the rule that changed them.
    rules: dict[str, int]
    changes: list[Changed]
    #: Mean reward a choice: the reported quality of work that was done, 1 where none was reported, 0 where it failed.
    estimates: Estimates | None
    #: Why there are none.
    no_estimates: str | None
    #: What the answer takes for granted.
    notes: list[str]


class Basis(Struct, frozen=True, kw_only=True):
    """How long work takes where it is not what a journal recorded."""

    work: Works
    #: Models whose times it knows.
    models: set[str]
    times: Times | Literal["catalogue"]
    times_error: TimesError | None
    #: What that takes for granted.
    notes: list[str]


class Question(Struct, frozen=True, kw_only=True):
    """What is asked about a window."""

    rulebook: Rulebook
    fleet: Mapping[str, int] | None = None
    times: Times = "fitted"
    #: A task that waited for longer counts as starved.
    starved_after_s: float = 3_600.0


def what_if(
    recordings: Sequence[Recording],
    question: Question,
    progress: Callable[[int], None] = lambda _: None,
    *,
    basis: Basis | None = None,
) -> WhatIf:
    """Replay a window of one or more partitions; `progress` is given the number of partitions that are done.

    With a `basis` the recorded choices were made by a replay, and work takes as long as that says.

    Raises:
        NothingRecorded: no task was routed in it.
        TooFewOutcomes: too little work ended to know how long work takes.
        ReplayRefused: the rules cannot take over what there was at its begin.
    """
    some = [one for one in recordings if one.steps]
    if not any(True for one in some for _ in one.choices()):
        steps = sum(len(one.steps) for one in some)
        raise NothingRecorded(
            f"No task was routed in this window ({steps:,} steps): choose another with --from and --to."
        )
    rulebook = question.rulebook
    rules = list(dict.fromkeys((step.policy, step.catalog) for one in some for step in one.steps))
    basis, is_played = basis or _basis(some, question), basis is not None
    courses = []
    refused: list[str] = []
    lacks: str | None = None
    direct: list[Key] = []
    choices: list[LoggedChoice] = []
    for number, one in enumerate(some, start=1):
        course = continued(one, rulebook, basis.work, question.fleet)
        courses.append(Course(course.steps, course.end.state))
        refused += course.refused
        try:
            beside = list(following(one, rulebook))
        except ReplayRefused as refusal_of_it:
            lacks, beside = str(refusal_of_it), []
        direct += [_key(live) for live, other in beside if other is None or other.chosen_model != live.chosen_model]
        choices += _logged(one, beside)
        progress(number)
    evs = {key: row.ev for one in some for key, row in one.tasks.items()}
    before = first_choices(choice for one in some for choice in one.choices() if _key(choice) in evs)
    after = first_choices(choice for course in courses for step in course.steps for choice in step.decisions)
    found = changes(before, after, direct)
    if is_played:
        said: str | None = "No estimate: the events have no choices that were really made."
    else:
        said = refusal(choices) if lacks is None else f"No estimate: {lacks}"
    starved_after_s = question.starved_after_s
    return WhatIf(
        from_ms=min(one.steps[0].now_ms for one in some),
        to_ms=max(one.steps[-1].now_ms for one in some),
        partitions=len(some),
        steps=sum(len(one.steps) for one in some),
        tasks=len(evs),
        recorded_rules=[Rules(policy=policy, catalog=catalog) for policy, catalog in rules],
        replayed_rules=Rules(policy=rulebook.policy_hash, catalog=rulebook.catalog_hash),
        fleet=dict(question.fleet) if question.fleet is not None else None,
        times=basis.times,
        times_error=basis.times_error,
        recorded=side_of([Course(one.steps, one.end) for one in some], evs, starved_after_s=starved_after_s),
        replayed=side_of(courses, evs, starved_after_s=starved_after_s),
        changed=len(found),
        changed_directly=sum(one.is_direct for one in found) if lacks is None else None,
        rules=dict(Counter(one.rule for one in found).most_common()),
        changes=found,
        estimates=estimates(choices) if said is None else None,
        no_estimates=said,
        notes=list(_notes(some, question, basis, refused)),
    )


def _basis(some: Sequence[Recording], question: Question) -> Basis:
    """Say how long work takes by what was recorded of it."""
    work = WorkModel.of(some, question.rulebook, question.times)
    if question.times == "recorded":
        notes = ["Attempts take and end as recorded, also on another model: a quicker model frees no slot sooner."]
        return Basis(work=work, models=work.models, times="recorded", times_error=None, notes=notes)
    note = (
        "Work takes what was recorded on its own model; on another one as long as such work does there, times what "
        "it took more or less than such work on its own. Whether it fails there follows from both failure rates."
    )
    error = times_error([one.seen for recording in some for one in recording.ended])
    return Basis(work=work, models=work.models, times="fitted", times_error=error, notes=[note])


def times_error(ended: Sequence[WorkSeen]) -> TimesError | None:
    """Return the error of fitted times, or None where a part of the work is too little to fit to."""
    try:
        return cross_validated(observations(ended))
    except TooFewOutcomes:
        return None


def _logged(recording: Recording, beside: Sequence[tuple[Decision, Decision | None]]) -> Iterator[LoggedChoice]:
    """Return the recorded choices whose work has ended, with what the other rules choose in their place."""
    for live, other in beside:
        done = recording.attempts.get((live.pool, live.task_id, live.attempt))
        if done is None or live.propensity is None or done.decision.decision_id != live.decision_id:
            continue
        outcome = done.work.outcome
        quality = outcome.quality if outcome.quality is not None else 1.0
        yield LoggedChoice(
            context=(work_kind(live),),
            action=live.chosen_model or "",
            propensity=live.propensity,
            reward=quality if outcome.status == "success" else 0.0,
            target={(other.chosen_model or "") if other is not None else _WAITS: 1.0},
        )


def _notes(some: Sequence[Recording], question: Question, basis: Basis, refused: Sequence[str]) -> Iterator[str]:
    yield from basis.notes
    unseen = sorted(set(question.fleet or {}) - basis.models)
    if unseen and basis.times == "fitted":
        yield f"No work of {', '.join(unseen)} was recorded: it is taken to be as quick as the models' middle."
    yield "Tasks, operators' events and quota reports come as recorded, whatever was chosen."
    if any(one.start is not None or one.is_cut for one in some):
        yield "Work that ran when the window began ends as recorded."
    if any(one.is_cut for one in some):
        yield "The journal's first steps are gone: tasks that waited before them are left out on both sides."
    if refused:
        yield f"{len(refused):,} recorded events are refused under these rules, the first so: {refused[0]}"


def _key(decision: Decision) -> Key:
    return decision.pool, decision.task_id
