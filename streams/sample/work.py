"""The bundled sample: real agent calls, each with a real issue title, as tasks that slotwise can route.

A pure function of the two data files of this folder: the same tasks with the same fields in the same order. The join
and the rules below are this module's; tokens, lengths, durations, costs and titles are as recorded.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from typing import Final

from msgspec import Struct

from schemas.events import TaskPending
from schemas.vocabulary import Complexity, Dimension, OnFailure, from_millis

#: One user's log, with pauses cut to `PAUSE_S_MAX`, as if this many such users shared the fleet.
USERS: Final = 70
PAUSE_S_MAX: Final = 60.0

#: Output tokens a second of the models in the log, medians over it; others count as `LOG_TPS_OTHERS`.
LOG_TPS: Final[Mapping[str, float]] = {
    "claude-3-5-sonnet-20241022": 36.0,
    "anthropic/claude-3-7-sonnet-20250219": 43.0,
    "deepseek/deepseek-chat": 35.0,
    "deepseek/deepseek-coder": 35.0,
}
LOG_TPS_OTHERS: Final = 25.0

#: Task type and agent role by the edit format of a call.
SHAPE: Final[Mapping[str, tuple[str, str]]] = {
    "ask": ("analysis", "analyst"),
    "architect": ("architecture", "architect"),
    "help": ("writing", "editor"),
    "whole": ("script", "coder"),
}
SHAPE_OTHERS: Final = ("code", "coder")

#: The part of the organisation a repository stands for.
LAYER: Final[Mapping[str, str]] = {
    "django/django": "web",
    "pallets/flask": "web",
    "psf/requests": "web",
    "sphinx-doc/sphinx": "docs",
    "pytest-dev/pytest": "tooling",
    "pylint-dev/pylint": "tooling",
    "matplotlib/matplotlib": "plotting",
    "mwaskom/seaborn": "plotting",
}
LAYER_OTHERS: Final = "science"

CLASSES: Final[tuple[Complexity, ...]] = ("trivial", "simple", "standard", "complex", "expert")
#: Required rating by class, on the dimension of the work.
BAR: Final[Mapping[Complexity, int]] = {"trivial": 3, "simple": 4, "standard": 6, "complex": 8, "expert": 9}

#: Limits of length and size; each one reached is a point of difficulty.
WORDS_LONG: Final = 150
WORDS_VERY_LONG: Final = 400
FILES_MANY: Final = 3
ANSWER_LONG: Final = 300
ANSWER_VERY_LONG: Final = 1000
CONTEXT_LARGE: Final = 20_000
#: From so many points on the class is `expert`.
EXPERT_POINTS: Final = 5
#: A crash in so many files blocks a release.
FILES_URGENT: Final = 8
#: A question answered in fewer tokens has no stated impact.
ANSWER_SLIGHT: Final = 100

SMALL_WORDS: Final = ("typo", "doc", "docs", "docstring", "documentation", "spelling", "readme", "message", "wording")


class Call(Struct, frozen=True):
    """One recorded model call."""

    t_done: int
    duration_s: float
    model: str
    edit_format: str
    input_tokens: int
    output_tokens: int
    cost_usd: float


class Issue(Struct, frozen=True):
    """One recorded issue: its title, and how large its body is."""

    repo: str
    title: str
    body_words: int
    code_fences: int
    has_traceback: bool
    py_files_mentioned: int


class SampleTask(Struct, frozen=True):
    """A task of the sample, with fields for the simulated fleet that the router does not see."""

    #: When it arrives, in simulated seconds from the start.
    at_s: float
    #: Seconds that the recorded call took beyond writing its answer, on any model.
    overhead_s: float
    output_tokens: int
    complexity: Complexity
    #: All fields but `at`, which is set when the task is sent.
    event: TaskPending


def tasks(run: str, count: int, pool: str = "main") -> list[SampleTask]:
    """Return the first `count` tasks in order of arrival; past its end the log is repeated.

    `run` goes into the task ids, so that two runs on one durable broker do not take each other's tasks for duplicates.
    """
    calls, issues = _calls(), _issues()
    gaps = [0.0, *(min(max(after.t_done - before.t_done, 0), PAUSE_S_MAX) for before, after in pairwise(calls))]
    made: list[SampleTask] = []
    at_s = 0.0
    for number in range(count):
        call = calls[number % len(calls)]
        # 7 and 430 have no common factor: neighbours in time get different repositories, and every issue is used.
        issue = issues[number * 7 % len(issues)]
        at_s += gaps[number % len(calls)] / USERS
        made.append(_task(f"{run}-{number:05d}", pool, at_s, call, issue))
    return made


def _task(task_id: str, pool: str, at_s: float, call: Call, issue: Issue) -> SampleTask:
    task_type, role = SHAPE.get(call.edit_format, SHAPE_OTHERS)
    complexity = _complexity(call, issue)
    layer = LAYER.get(issue.repo, LAYER_OTHERS)
    small = complexity == "trivial"
    event = TaskPending(
        task_id=task_id,
        pool=pool,
        at=from_millis(0),
        title=issue.title,
        requires=_requires(task_type, complexity, issue),
        priority=_priority(issue, small=small),
        quest_priority=95 if issue.has_traceback and issue.py_files_mentioned >= FILES_URGENT else 0,
        importance=_importance(issue, layer),
        # Code in the report makes it reproducible.
        tractability=0.4 + 0.1 * min(issue.code_fences, 5),
        # Its EV is unknown then, as it often is for real work.
        impact=None
        if call.edit_format == "ask" and call.output_tokens < ANSWER_SLIGHT
        else 1.0 + call.output_tokens / 250.0,
        # The recorded cost, and at least a cent.
        estimated_cost=max(call.cost_usd, 0.01),
        layer=layer,
        lane="bugs" if issue.has_traceback else "upkeep" if small else "questions" if role == "analyst" else "features",
        agent_role=role,
        task_type=task_type,
        complexity=complexity,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        tenant_id=issue.repo.partition("/")[0],
        on_failure=_on_failure(complexity),
    )
    tps = LOG_TPS.get(call.model, LOG_TPS_OTHERS)
    overhead_s = max(0.5, call.duration_s - call.output_tokens / tps)
    return SampleTask(at_s, overhead_s, call.output_tokens, complexity, event)


def _complexity(call: Call, issue: Issue) -> Complexity:
    """Return the class by points of difficulty: long reports, tracebacks, many files, long answers, much context."""
    if set(issue.title.lower().split()) & set(SMALL_WORDS):
        return "trivial"
    points = (
        (issue.body_words >= WORDS_LONG)
        + (issue.body_words >= WORDS_VERY_LONG)
        + issue.has_traceback
        + (issue.py_files_mentioned >= FILES_MANY)
        + (call.output_tokens >= ANSWER_LONG)
        + (call.output_tokens >= ANSWER_VERY_LONG)
        + (call.input_tokens >= CONTEXT_LARGE)
        + 2 * (call.edit_format == "architect")
    )
    return CLASSES[min(points, 3) if points < EXPERT_POINTS else 4]


def _requires(task_type: str, complexity: Complexity, issue: Issue) -> dict[Dimension, int]:
    bar = BAR[complexity]
    if task_type == "analysis":
        return {"analysis": bar}
    if issue.has_traceback:
        return {"coding": bar, "reasoning": min(bar, 8)}
    return {"coding": bar}


def _priority(issue: Issue, *, small: bool) -> int:
    return 50 + 20 * issue.has_traceback + 10 * (issue.py_files_mentioned >= FILES_MANY) - 20 * small


def _importance(issue: Issue, layer: str) -> float:
    """Return the importance: a crash counts double, a long report up to three times a one-liner, documentation half."""
    length = 1.0 + 2.0 * min(issue.body_words, WORDS_VERY_LONG) / WORDS_VERY_LONG
    return length * (2.0 if issue.has_traceback else 1.0) * (0.5 if layer == "docs" else 1.0)


def _on_failure(complexity: Complexity) -> OnFailure:
    return "retry" if complexity in ("trivial", "simple") else "escalate"


def _calls() -> list[Call]:
    return [
        Call(
            t_done=int(row["t_done"]),
            duration_s=float(row["duration_s"]),
            model=row["model"],
            edit_format=row["edit_format"],
            input_tokens=int(row["prompt_tokens"]),
            output_tokens=int(row["completion_tokens"]),
            cost_usd=float(row["cost_usd"] or 0.0),
        )
        for row in _rows("calls.csv.gz")
    ]


def _issues() -> list[Issue]:
    return [
        Issue(
            repo=row["repo"],
            title=row["title"],
            body_words=int(row["body_words"]),
            code_fences=int(row["code_fences"]),
            has_traceback=row["has_traceback"] == "1",
            py_files_mentioned=int(row["py_files_mentioned"]),
        )
        for row in _rows("issues.csv.gz")
    ]


def _rows(name: str) -> list[dict[str, str]]:
    packed = resources.files("streams.sample").joinpath("data", name).read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
