"""The same history gives the same bytes: in another process, from a snapshot, from the journal, and asked twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.input import Input
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import Millis
from streams.core.router import Router
from tests.support.builders import tick
from tests.support.random_history import History, book, over_the_wire
from tests.support.router_rig import picture

ROOT = Path(__file__).parents[2]
#: Says the digest of each step of a history; it is run in a process of its own.
TELLS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("history", sys.argv[1])
history = importlib.util.module_from_spec(spec)
sys.modules["history"] = history
spec.loader.exec_module(history)
print("\\n".join(history.digests(int(sys.argv[2]), int(sys.argv[3]))))
"""


def digests(seed: int, steps: int) -> Iterator[str]:
    """Give the digest of each step of a history, and of the state that it ends in."""
    rig = History(seed).play(steps)
    for step in rig.steps:
        yield hashlib.sha256(encode_step(step)).hexdigest()
    yield hashlib.sha256(b"".join(picture(rig.router))).hexdigest()


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
