"""Journals of before 0.1.0 still fold: the steps of every golden history as that code wrote them, and its snapshots."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from schemas.decision import Activated
from schemas.steps import decode_step
from streams.core.policy.rulebook import RulebookError, load_rulebook
from streams.core.router import Router
from streams.shipped import shipped
from tests.golden.history import HERE, read
from tests.support.builders import step
from tests.support.router_rig import picture

RECORDED = Path(__file__).parents[1] / "data" / "journals_v1.jsonl.gz"


@cache
def recorded() -> dict[str, Any]:
    """History -> its journal records and the snapshot after them, as they were written."""
    lines = gzip.decompress(RECORDED.read_bytes()).decode().splitlines()
    return {one["history"]: one for one in map(json.loads, lines)}


@pytest.mark.parametrize("name", recorded())
def test_a_recorded_journal_folds_to_its_recorded_snapshot(name: str) -> None:
    """The state after the old steps is the state that the old snapshot restores."""
    book = read(HERE / f"{name}.yaml").book
    folded = Router(0, book)
    for record in recorded()[name]["steps"]:
        folded.apply(decode_step(record.encode()))
    folded.validate()
    restored = Router.restore(0, book, [base64.b64decode(chunk) for chunk in recorded()[name]["snapshot"]])
    assert picture(folded) == picture(restored)
    assert folded.due_ms() == restored.due_ms()


def test_a_recorded_policy_may_have_a_key_that_is_gone() -> None:
    """A journal that activated it still folds; the same text is refused where it comes in a file or an event."""
    catalog, policy = shipped("catalog.toml"), shipped("policy.toml") + "\n[lane.payments]\ncritical = true\n"
    with pytest.raises(RulebookError, match=r"lane\.payments: critical is no known key"):
        load_rulebook(catalog, policy)
    router = Router(0, load_rulebook(catalog, shipped("policy.toml")))
    activated = Activated(
        policy="0" * 16,
        catalog="1" * 16,
        policy_text=policy,
        catalog_text=catalog,
        ev_window_ms=3_600_000,
        finished_memory_ms=86_400_000,
    )
    router.apply(step(0, activated=activated))
    assert "payments" in router.rulebook.policy.lane
