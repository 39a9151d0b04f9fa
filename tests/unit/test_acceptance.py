"""The acceptance scenario on the router alone, its steps written down and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Outcome, SlotFreed, TaskPending
from schemas.input import Input
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import INPUT_TOPICS, SLOT_FREED, TASK_PENDING, Millis, from_millis
from streams.core.router import Router
from streams.settings import Settings
from streams.shipped import file_rulebook
from tests.support.acceptance import POOL, SLOTS, TASKS, check

START_MS = 1_795_255_200_000


@pytest.mark.rule("round.acceptance")
def test_the_two_highest_evs_get_opus_and_sonnet() -> None:
    """Ten tasks wait, four slots come together, then only haiku slots are freed."""
    settings = Settings()
    router = Router(0, file_rulebook(settings))
    now_ms = START_MS
    offsets = dict.fromkeys(range(len(INPUT_TOPICS)), 0)
    decisions: list[dict[str, Any]] = []

    def play(topic: str, *events: TaskPending | SlotFreed) -> list[dict[str, Any]]:
        nonlocal now_ms
        now_ms += 1000
        index = INPUT_TOPICS.index(topic)
        inputs = []
        for event in events:
            inputs.append(Input(index, offsets[index], Millis(now_ms), event))
            offsets[index] += 1
        step = decode_step(encode_step(router.handle(inputs)))
        router.apply(step)
        router.validate()
        said: list[dict[str, Any]] = json.loads(encode_step(step)).get("decisions", [])
        decisions.extend(said)
        return said

    play(
        TASK_PENDING,
        *(
            TaskPending(task_id=task_id, pool=POOL, at=from_millis(now_ms), ev=ev, priority=priority)
            for task_id, ev, priority in TASKS
        ),
    )
    running = play(
        SLOT_FREED,
        *(SlotFreed(slot_id=slot, pool=POOL, at=from_millis(now_ms), model=model) for slot, model in SLOTS),
    )
    while haikus := [one for one in running if one.get("chosen_model") == "haiku"]:
        running = [
            said
            for one in haikus
            for said in play(
                SLOT_FREED,
                SlotFreed(
                    slot_id=one["chosen_slot_id"],
                    pool=POOL,
                    at=from_millis(now_ms),
                    lease=one["lease"],
                    outcome=Outcome(task_id=one["task_id"], status="success"),
                ),
            )
        ]
    check(decisions)
