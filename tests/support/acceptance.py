"""The acceptance scenario of the origin: ten tasks of mixed EV and priority, four slots, ten explained decisions.

The two highest EVs get opus and sonnet; the others run on haiku as haiku slots free. The unit test, the embedded
broker and real Kafka all play this and ask `check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POOL = "main"
#: task id, EV, priority. The two highest EVs are among the first four in service order.
TASKS: tuple[tuple[str, float, int], ...] = (
    ("fix-typo", 1.0, 10),
    ("rename-flag", 3.0, 20),
    ("triage-issue", 5.0, 40),
    ("bump-version", 7.0, 80),
    ("write-notes", 9.0, 50),
    ("add-test", 12.0, 55),
    ("review-patch", 20.0, 30),
    ("mend-parser", 30.0, 75),
    ("plan-release", 80.0, 70),
    ("redesign-api", 95.0, 60),
)
#: slot id, model.
SLOTS: tuple[tuple[str, str], ...] = (
    ("opus-1", "opus"),
    ("sonnet-1", "sonnet"),
    ("haiku-1", "haiku"),
    ("haiku-2", "haiku"),
)


def check(decisions: Iterable[Mapping[str, Any]]) -> None:
    """Every task has its slot, as the scenario wants it, and every decision says why.

    `decisions` are the journal's, as JSON objects in their order.
    """
    said = list(decisions)
    routed = {one["task_id"]: one for one in said if one["outcome"] == "routed"}
    assert {task: one["chosen_model"] for task, one in routed.items()} == {
        task: {"redesign-api": "opus", "plan-release": "sonnet"}.get(task, "haiku") for task, _, _ in TASKS
    }
    assert len(routed) == sum(one["outcome"] == "routed" for one in said), "a task was routed twice"
    first = [one["task_id"] for one in said if one["outcome"] == "routed"][:4]
    assert set(first) == {"redesign-api", "bump-version", "mend-parser", "plan-release"}
    for one in said:
        assert one["reason"].endswith("."), one
        if one["outcome"] == "routed":
            assert set(one["alternatives"]) == {"opus", "sonnet", "haiku"}, one
            assert one["alternatives"][one["chosen_model"]]["gate"] == "chosen", one
            assert one["lease"] >= 1, one
    # Low EV may not have opus, although it was free when they were decided.
    assert routed["bump-version"]["alternatives"]["opus"]["gate"] == "premium"
