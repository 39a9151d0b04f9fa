"""A long history with its shadow, which is stopped in every way: `python -m tests.support.shadow_run 1000000`.

The live side is a router whose every step goes through its record. The shadow is restarted from a snapshot, killed (it
goes on from an older snapshot and derives the steps since then again), and handed over to another process, which begins
with a snapshot of before and rules that it loads again. What it finds twice is recognised by its id, as a store does.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Final

from msgspec import Struct

from schemas.decision import Step
from schemas.input import Input
from schemas.shadow import ShadowDifference
from schemas.steps import decode_step, encode_step
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.shadow.twin import Twin
from streams.shipped import shipped
from tests.bench.workload import Churn
from tests.support.builders import START_MS

SLOTS: Final = 90
BACKLOG: Final = 200
#: Pairs of a freed slot and a new task in one step.
PAIRS: Final = 16
#: Steps between two snapshots of the shadow.
SNAPSHOT_STEPS: Final = 200


class ShadowRun(Struct, frozen=True, kw_only=True):
    """What came of it."""

    decisions: int
    steps: int
    restarts: int
    kills: int
    hand_overs: int
    #: Steps that were derived more than once.
    again: int
    differences: dict[str, int]
    #: Differences that were found a second time.
    duplicates: int
    #: The shadow's own time, without the live router's.
    shadow_s: float


def rules(changed: dict[str, str] | None = None) -> Rulebook:
    """Load the shipped rules as a process does; `changed` replaces texts of the policy."""
    policy = shipped("policy.toml")
    for before, after in (changed or {}).items():
        assert before in policy
        policy = policy.replace(before, after, 1)
    return load_rulebook(shipped("catalog.toml"), policy)


def run(
    decisions: int,
    *,
    changed: dict[str, str] | None = None,
    seed: int = 1,
    stops: float = 0.002,
    snapshot_steps: int = SNAPSHOT_STEPS,
) -> ShadowRun:
    """Let a shadow follow so many live decisions; `stops` is the share of steps after which it is stopped."""
    chance = random.Random(seed)
    live, churn = Router(0, rules()), Churn("main", START_MS, seed, whole=True)
    twin = Twin.beside(live, rules(changed), run="run", name="long")
    found: dict[str, ShadowDifference] = {}
    count = {"restarts": 0, "kills": 0, "hand_overs": 0, "again": 0, "duplicates": 0, "steps": 0, "decisions": 0}
    saved, since = list(twin.snapshot()), list[tuple[Step, list[Input]]]()
    shadow_s = 0.0

    def follow(step: Step, batch: list[Input]) -> None:
        for one in twin.take(step, batch):
            count["duplicates"] += one.difference_id in found
            assert found.setdefault(one.difference_id, one) == one, "what is derived again is the same"

    def again(rulebook: Rulebook) -> Twin:
        return Twin.restore(0, rulebook, saved, run="run", name="long")

    waiting = [churn.rule(), churn.announce(SLOTS), churn.arrive(BACKLOG)]
    while count["decisions"] < decisions:
        batch = waiting.pop(0) if waiting else churn.turn(PAIRS)
        raw = encode_step(live.handle(batch))
        step = decode_step(raw)
        live.apply(step)
        churn.see(step)
        count["steps"] += 1
        count["decisions"] += len(step.decisions)
        since.append((step, batch))
        began_s = time.perf_counter()
        follow(step, batch)
        if chance.random() < stops:
            way = chance.choice(("restarts", "kills", "hand_overs"))
            count[way] += 1
            if way == "restarts":
                twin = Twin.restore(0, twin.router.rulebook, list(twin.snapshot()), run="run", name="long")
            else:
                twin = again(rules(changed) if way == "hand_overs" else twin.router.rulebook)
                count["again"] += len(since)
                for one in since:
                    follow(*one)
        if len(since) >= snapshot_steps:
            saved = list(twin.snapshot())
            since.clear()
        shadow_s += time.perf_counter() - began_s
    assert twin.sums.decisions == count["decisions"]
    assert twin.sums.steps == count["steps"] == live.seq == twin.seq
    assert sum(twin.sums.differences.values()) == len(found), "sums and rows agree"
    return ShadowRun(differences=dict(twin.sums.differences), shadow_s=round(shadow_s, 1), **count)


if __name__ == "__main__":
    print(run(int(sys.argv[1])))  # noqa: T201 - this is what it is for
