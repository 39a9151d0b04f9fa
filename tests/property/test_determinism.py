"""The same history gives the same bytes: in another process, from a snapshot, from the journal, and asked twice."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import read_event, write_event
from schemas.events import Event
from schemas.input import Content, Input, Misplaced, Unreadable
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import INPUT_TOPICS, Millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from tests.support.builders import START_MS, cancelled, freed, retired, rulebook, slot, task, tick
from tests.support.router_rig import RouterRig, picture

ROOT = Path(__file__).parents[2]
MODELS = ("opus", "gpt-5", "sonnet", "codex", "haiku", "glm", "gemini-flash")
POOLS = ("main", "main", "main", "side")
#: Says the digest of each step of a history; it is run in a process of its own.
TELLS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("history", sys.argv[1])
history = importlib.util.module_from_spec(spec)
sys.modules["history"] = history
spec.loader.exec_module(history)
print("\\n".join(history.digests(int(sys.argv[2]), int(sys.argv[3]))))
"""

Choice = Callable[[], Content | None]


def book() -> Rulebook:
    """Give rules under which everything happens often: ageing, recomputing, and announcements that must wait."""
    return rulebook(
        service={"ageing_s_per_point": 0.667, "announcements_max": 3, "announcements_per_s": 2.0},
        ev={"window_s": 120.0, "recompute_s": 1.3},
        attempts={"finished_memory_s": 60.0, "back_off_s": 0.4},
        leases={"default_s": 20.0},
    )


class History:
    """A rig and random events; the same seed gives the same events."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.rig = RouterRig(book=book(), strict=False)
        self.names = 0
        self.controls = 0
        self.choices: list[tuple[Choice, int]] = [
            (self.comes, 50),
            (self.announced, 12),
            (self.given_back, 28),
            (self.cancelled, 3),
            (self.retired, 2),
            (self.ticks, 3),
            (lambda: Unreadable("value: no JSON."), 2),
            (lambda: Misplaced(3), 1),
        ]

    def play(self, steps: int) -> RouterRig:
        """So many steps of one to ten events; the rig then has the batches and their steps."""
        makers, weights = zip(*self.choices, strict=True)
        for _ in range(steps):
            after_ms = self.rnd.choice([0, 5, 300, 700, 2_000, 30_000])
            batch: list[tuple[int, Content]] = []
            for make in self.rnd.choices(makers, weights, k=self.rnd.choice([1, 1, 3, 10])):
                event = make()
                if event is not None:
                    batch.append((after_ms, event))
                    after_ms = self.rnd.choice([0, 0, 1, 20])
            if batch:
                self.rig.hand_in_timed(batch)
        return self.rig

    def control(self) -> dict[str, str]:
        """A control id that no other history has any part in; now and then one that was there before."""
        self.controls += self.rnd.random() < 0.9
        return {"control_id": f"c-{self.controls}"}

    def some_task(self) -> str:
        """A task's name, known or not yet."""
        return f"t-{self.rnd.randrange(self.names + 3)}"

    def comes(self) -> Event:
        """A task."""
        rnd, now_ms = self.rnd, self.rig.now_ms
        self.names += 1
        return task(
            f"t-{self.names}" if rnd.random() < 0.95 else self.some_task(),
            pool=rnd.choice(POOLS),
            at_ms=now_ms - rnd.choice([0, 0, 500]),
            ev=rnd.choice([None, rnd.lognormvariate(1, 1), rnd.lognormvariate(1, 1), 5.0]),
            priority=rnd.choice([10, 50, 50, 95]),
            quest_priority=rnd.choice([0, 0, 0, 96]),
            requires=rnd.choice([{}, {}, {"coding": 5}, {"coding": 8}, {"coding": 10, "reasoning": 9}]),
            complexity=rnd.choice([None, "trivial", "standard", "expert"]),
            on_failure=rnd.choice(["retry", "escalate", "drop"]),
            deny_providers=rnd.choice([(), (), ("anthropic",), ("openai", "google")]),
            deadline_ms=rnd.choice([None, None, now_ms + 3_000]),
            not_before_ms=rnd.choice([None, None, None, now_ms + 1_500]),
        )

    def announced(self) -> Event:
        """A slot says that it is there, now and then with another model."""
        model, number = self.rnd.choice(MODELS), self.rnd.randrange(2)
        runs = model if self.rnd.random() < 0.9 else self.rnd.choice(MODELS)
        return slot(f"{model}-{number}", runs, pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms)

    def given_back(self) -> Event | None:
        """A slot that works reports how it went, now and then under a lease that is over."""
        leased = [
            row for pool in self.rig.router.state.pools.values() for row in pool.slots.values() if row.state == "leased"
        ]
        if not leased:
            return None
        row = self.rnd.choice(leased)
        status = self.rnd.choice(["success", "success", "failure", "cancelled"])
        lease = row.lease - (self.rnd.random() < 0.05)
        return freed(row.slot_id, lease, row.task_id, status, pool=row.pool, at_ms=self.rig.now_ms)

    def cancelled(self) -> Event:
        """A task is cancelled, known or not yet."""
        return cancelled(self.some_task(), pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms, **self.control())

    def retired(self) -> Event:
        """A slot is retired, known or not."""
        name = f"{self.rnd.choice(MODELS)}-{self.rnd.randrange(2)}"
        return retired(name, pool=self.rnd.choice(POOLS), at_ms=self.rig.now_ms, **self.control())

    def ticks(self) -> Event:
        """Time passes."""
        return tick(at_ms=self.rig.now_ms, **self.control())


def digests(seed: int, steps: int) -> Iterator[str]:
    """Give the digest of each step of a history, and of the state that it ends in."""
    rig = History(seed).play(steps)
    for step in rig.steps:
        yield hashlib.sha256(encode_step(step)).hexdigest()
    yield hashlib.sha256(b"".join(picture(rig.router))).hexdigest()


def over_the_wire(item: Input) -> Input:
    """Give the input as it comes from its record."""
    if isinstance(item.event, Unreadable | Misplaced):
        return item
    topic = INPUT_TOPICS[item.topic]
    record = write_event(topic, item.event, ce_id="1", source="/tests", time_ms=START_MS)
    event = read_event(topic, record.key, record.value, record.headers)
    return Input(topic=item.topic, offset=item.offset, now_ms=item.now_ms, event=event)


#: A history costs some tens of milliseconds.
SOME = settings(max_examples=max(10, settings().max_examples // 5))
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_with_another_hash_seed_takes_the_same_steps(hash_seed: str) -> None:
    """Sets and dicts of strings come in another order there: some hundred events, step by step the same digests."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TELLS, __file__, "1", "150"]
    there = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert there.returncode == 0, there.stderr
    here = list(digests(1, 150))
    assert there.stdout.split() == here
    assert len(here) > 140


@pytest.mark.rule("record.determinism")
@SOME
@given(SEEDS)
def test_each_recorded_step_follows_again_from_its_inputs(seed: int) -> None:
    """The journal says which records a step took and when; these, read again from the wire, bring about its bytes."""
    rig = History(seed).play(40)
    records = {(item.topic, item.offset): over_the_wire(item) for batch in rig.batches for item in batch}
    again = Router(0, book())
    for raw in map(encode_step, rig.steps):
        recorded = decode_step(raw)
        found = [(records[one.topic, one.offset], one.now_ms) for one in recorded.inputs]
        step = again.handle(
            [Input(topic=item.topic, offset=item.offset, now_ms=now_ms, event=item.event) for item, now_ms in found]
        )
        assert encode_step(step) == raw
        again.apply(recorded)


@SOME
@given(SEEDS, st.integers(0, 39))
def test_a_router_restored_from_a_snapshot_at_any_point_goes_on_byte_for_byte(seed: int, at: int) -> None:
    """A router restored from a snapshot takes the same steps as the first one, and has the same due time."""
    rig = History(seed).play(40)
    router = Router(0, book())
    for place, batch in enumerate(rig.batches):
        if place == at:
            before = picture(router)
            router = Router.restore(0, book(), before)
            assert picture(router) == before
        step = router.handle(batch)
        assert encode_step(step) == encode_step(rig.steps[place])
        router.apply(step)
    assert picture(router) == picture(rig.router)
    assert router.due_ms() == rig.router.due_ms()


@pytest.mark.rule("record.determinism")
@SOME
@given(SEEDS)
def test_a_follower_of_the_journal_has_the_identical_snapshot(seed: int) -> None:
    """Step for step, a router that only reads the journal has the bytes of the one that wrote it, and can take over."""
    rig = History(seed).play(40)
    writer, follower = Router(0, book()), Router(0, book())
    for batch in rig.batches:
        step = writer.handle(batch)
        raw = encode_step(step)
        assert encode_step(follower.handle(batch)) == raw
        writer.apply(step)
        follower.apply(decode_step(raw))
        assert picture(follower) == picture(writer)
        assert follower.due_ms() == writer.due_ms()


@SOME
@given(SEEDS, st.integers(1, 5))
def test_what_is_computed_and_thrown_away_leaves_no_trace(seed: int, often: int) -> None:
    """A step that the journal did not take: of part of the records, or of all; the next one is as if it never was."""
    rig = History(seed).play(30)
    router = Router(0, book())
    for place, batch in enumerate(rig.batches):
        before = picture(router)
        if place % often == 0:
            router.handle(batch[: len(batch) // 2])
            router.handle([*batch, Input(2, 10**9, Millis(batch[-1].now_ms + 60_000), tick())])
        assert picture(router) == before
        step = router.handle(batch)
        assert encode_step(step) == encode_step(rig.steps[place])
        router.apply(step)
