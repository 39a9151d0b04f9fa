"""Ids, units, closed lists and notations of time that events, journal and policy share.

No rule is in this file. A number with a unit has a type of its own, so that a price cannot be passed where a time is
expected. A closed list is written once, here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, NewType, get_args

from msgspec import Meta

#: Milliseconds since the Unix epoch, UTC. The router's only clock unit.
Millis = NewType("Millis", int)
#: Money in millionths of a US dollar, so that sums are exact.
MicroUsd = NewType("MicroUsd", int)
#: 1 cheap, 2 middle, 3 premium.
Tier = Literal[1, 2, 3]

# `$` alone would let a trailing newline through in Python; the look-ahead closes that in every dialect.
ID_PATTERN: Final = r"^[A-Za-z0-9._:-]{1,128}$(?!\n)"
TIME_PATTERN: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$(?!\n)"

#: Years that are accepted: earlier ones are an unset field or a typo, and every store takes four digits.
YEAR_MIN, YEAR_MAX = 1970, 9999
_YEAR: Final = r"(?:19[7-9][0-9]|[2-9][0-9]{3})"
_LEAP_YEAR: Final = (
    r"(?:19(?:7[26]|8[048]|9[26])|[2-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[3579][26])00)"
)
_DAY: Final = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
#: A time of an accepted year that the calendar has. Events must match it on arrival; what a journal holds already need
#: not, because earlier versions took any year.
MOMENT_PATTERN: Final = rf"^{_DAY}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:\.[0-9]{{1,9}})?Z$(?!\n)"

#: Characters of a URI or of a reference relative to one (RFC 3986); the apostrophe is spelled out.
REF_PATTERN: Final = r"^(?:[A-Za-z0-9._~:/?#\[\]@!$&\x27()*+,;=-]|%[0-9A-Fa-f]{2})+$(?!\n)"

Id = Annotated[str, Meta(pattern=ID_PATTERN, description="Letters, digits, `.`, `_`, `:`, `-`; 1 to 128 of them.")]
Time = Annotated[
    str,
    Meta(pattern=TIME_PATTERN, description="RFC 3339 in UTC with `Z`, years 1970 to 9999; milliseconds optional."),
]
Ref = Annotated[str, Meta(pattern=REF_PATTERN, max_length=2048, description="URI reference (RFC 3986).")]
#: JSON as text, without space between its parts, so that every value comes out as it was sent; on the wire it is JSON.
JsonText = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/json"})]
Word = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=8192)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Bar = Annotated[int, Meta(ge=0, le=10)]

Dimension = Literal["coding", "safety", "reasoning", "analysis", "speed", "instruction_following"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
Complexity = Literal["trivial", "simple", "standard", "complex", "expert"]
#: Whose spend an hour a policy may cap.
BreakerScope = Literal["tenant", "lane", "pool"]
Strategy = Literal["cheapest_capable", "objective", "preference"]
Objective = Literal["cost_speed", "balanced", "quality"]
Profile = Literal["fast", "strong"]
OnFailure = Literal["escalate", "retry", "drop"]
SlotReport = Literal["free", "working", "idle", "leaving"]
OutcomeStatus = Literal["success", "failure", "cancelled"]
#: Error classes of a failure that is no attempt: the vendor did not take the work.
OVERLOADED: Final = frozenset(("rate_limited", "overloaded", "quota"))
#: Why a slot is to stop its work: it is no longer wanted, the lease ended, or ended on a slot that was retired.
StopReason = Literal["cancelled", "lease_lost", "slot_retired"]
#: How a task ended. A failure that is final is `dead_lettered` or `dropped`; `failure` is not sent by this version.
FinishStatus = Literal["success", "failure", "cancelled", "expired", "dead_lettered", "dropped"]
Fit = Literal["good_fit", "underpowered", "overprovisioned", "failed"]
#: Steps of `slotwise policy propose`, in their order, and what a step came to: `refused` by the person who was asked.
ProposalStep = Literal["check", "diff", "replay", "shadow", "report", "activate"]
StepOutcome = Literal["done", "refused", "failed"]
Mode = Literal["live", "shadow", "replay"]

#: The gates in the order in which they are evaluated; the first that refuses is the model's verdict.
Gate = Literal["capability", "context", "boundary", "floor", "exhausted", "drained", "quota", "premium", "credit"]
GATES: Final[tuple[Gate, ...]] = get_args(Gate)
#: Verdict on one model: the gate that refused it, or `lost` (all slots that it may use), `busy`, `ok` (could have been
#: chosen), `chosen`.
Verdict = Literal[Gate, "lost", "busy", "ok", "chosen"]
#: What decided for a slot among those that the strategy left, or what put a model's best slot behind it: context on the
#: slot or under its account, nothing else was free, the slot's use, its model's, estimated cost, score, slot id, a swap
#: within the round. `catalogue`: the static fallback chose.
Decisive = Literal[
    "affinity_slot",
    "affinity_account",
    "only_free",
    "least_used",
    "model_share",
    "cost",
    "score",
    "id",
    "swap",
    "catalogue",
]
#: How a task's wait ended; `waiting`: it goes on.
DecisionOutcome = Literal["routed", "waiting", "cancelled", "expired", "dead_lettered", "dropped"]
#: Headline of a waiting task: `capable_busy`, `lost`, or the word of the rule whose gate leaves it no model.
Headline = Literal[
    "no_capable_model", "capable_busy", "reserved_for_ev", "exhausted", "quota", "credit", "drained", "boundary",
    "context", "floor", "lost",
]  # fmt: skip
#: The reason: the strategy that routed the task, the headline of a waiting task, or how the task ended.
ReasonCode = Literal[
    "cheapest_capable", "lifted", "objective", "preference", "router_error",
    Headline,
    "cancelled", "expired", "dead_lettered", "dropped",
]  # fmt: skip

TASK_PENDING: Final = "task.pending"
SLOT_FREED: Final = "slot.freed"
FLEET_CONTROL: Final = "fleet.control"
TASK_ROUTED: Final = "task.routed"
TASK_AWAIT_SLOT: Final = "task.await_slot"
TASK_CANCELLED: Final = "task.cancelled"
TASK_FINISHED: Final = "task.finished"
DECISION_AUDIT: Final = "decision.audit"
DECISION_DIFFERENCE: Final = "decision.difference"
#: The topics a router reads; a journal record names them by their place in this list.
INPUT_TOPICS: Final = (TASK_PENDING, SLOT_FREED, FLEET_CONTROL)
#: The topics that follow from the journal, beside dead letters.
OUTPUT_TOPICS: Final = (TASK_ROUTED, TASK_AWAIT_SLOT, TASK_CANCELLED, TASK_FINISHED)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The first and the last moment that can be written.
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def to_millis(text: str) -> Millis:
    """Return the milliseconds of an RFC 3339 UTC time; finer digits are cut.

    Raises:
        ValueError: the text has the right form but is no real time (month 13).
    """
    # Whole numbers all the way: `timestamp()` is a float and rounds far from the epoch.
    since = datetime.fromisoformat(text) - _EPOCH
    return Millis(since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000)


def from_millis(at_ms: int) -> str:
    """Return RFC 3339 in UTC with `Z`, four digits of a year and three of a second, the only form that is written.

    A sum beyond the calendar (a deadline of 9999 and a pause) is written as the calendar's last or first moment.
    """
    seconds, ms = divmod(min(max(at_ms, _FIRST_MS), LAST_MS), 1000)
    # Not `strftime`: its %Y has no leading zeros on Linux.
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"
