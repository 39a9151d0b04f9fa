"""An application in memory in which every page has something to show: tasks in each state, dead letters, sums."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.dead_letters import dead_letter_headers
from streams.shadow.report import ShadowReport
from streams.views.dead_letters import StoredRecord, collected
from streams.views.explain import Explained
from streams.views.lane_state import LaneLine
from streams.views.stats import Analytics, EvStep, QualityLine, Routed, Stats, StatsLine, TierHour
from streams.web.probe import Probe
from tests.support.shadow_rows import ONE, RUN
from tests.support.web_rig import WebRig

DIFFERS = ShadowReport(run=RUN, differences=(replace(ONE, task_id="w-1"),), more=0)
#: Every page with tables, and the sums by each thing whose decisions are filtered otherwise.
ADDRESSES = (
    *("/", "/ui/fleet", "/ui/fleet?state=busy", "/ui/waiting", "/ui/tasks", "/ui/tasks?state=delayed", "/ui/decisions"),
    *("/ui/flow", "/ui/flow?partition=0", "/ui/dead-letters", "/ui/routing", "/ui/analytics", "/ui/analytics?by=lane"),
    *("/ui/analytics?by=role", "/ui/tasks/w-1?pool=main", "/ui/what-if"),
)


async def filled(monkeypatch: pytest.MonkeyPatch) -> WebRig:
    """Give one: 3 slots, of which 2 are busy and one is draining; 3 tasks run, 3 wait, 1 may not be served yet."""
    monkeypatch.setattr("streams.web.pages.task.explain_whole", lambda *_, **__: Explained())
    monkeypatch.setattr("streams.web.pages.decisions.decisions_by_time", lambda *_, **__: [])
    monkeypatch.setattr("streams.web.pages.routing.view.analytics", lambda *_, by, **__: analytics(by))
    monkeypatch.setattr("streams.web.pages.routing.view.routed", lambda *_, by, **__: routed(by))
    monkeypatch.setattr("streams.web.pages.routing.lanes", lambda *_: (LANE,))
    monkeypatch.setattr("streams.web.pages.what_if.shadows", lambda *_, **__: (RUN,))
    monkeypatch.setattr("streams.web.pages.what_if.report_of", lambda *_, **__: DIFFERS)
    rig = WebRig(tokens=False)
    for slot in ("haiku-1", "sonnet-1", "opus-1"):
        await send(rig, "/slots", slot_id=slot, model=slot.partition("-")[0])
    for number in range(5):
        await send(rig, "/tasks", task_id=f"w-{number}", title="Fix typo", ev=float(number), lane="docs", layer="app")
    await send(rig, "/tasks", task_id="hard", requires={"coding": 10, "safety": 10})
    await send(rig, "/tasks", task_id="later", not_before="2099-01-01T00:00:00.000Z")
    await rig.web.send("fleet.control", {"kind": "slot.retired", "control_id": "c-1", "by": "ops", "pool": "main",
                                         "slot_id": "opus-1", "at": "2026-11-21T10:00:00.000Z"})  # fmt: skip
    found = collected([_refused(0, "task.pending"), _refused(1, "task.pending"), _refused(2, "slot.freed")])

    async def ask() -> Any:
        return found

    rig.web.probes["dead letters"] = Probe(ask, every_s=3600)
    return rig


async def send(rig: WebRig, path: str, **fields: Any) -> None:
    """Send an event of the pool."""
    reply = await rig.ask("POST", path, {"pool": "main", **fields})
    assert reply.status == 202, reply.body


def _refused(offset: int, topic: str) -> StoredRecord:
    headers = dead_letter_headers(topic, 0, offset, "No.", ())
    return StoredRecord(topic, 0, offset, 1_700_000_000_000 + offset, b"main", b"{}", headers)


def line(*key: str, routed: int = 4) -> StatsLine:
    """The sums of one key."""
    return StatsLine(
        key=key, decisions=9, routed=routed, waiting=4, ended=1, fallbacks=1, fallback_share=0.25, router_errors=0,
        router_error_share=0.0, wait_p50_s=1.0, wait_p95_s=2.0, wait_max_s=3.0, finished=3, failed=1, failed_share=0.25,
        input_tokens=1000, output_tokens=100, estimated_usd=1.0, spent_usd=0.5, usd_per_task=0.1,
        usd_per_million_tokens=2.0, saved_vs_premium_usd=3.0, saved_vs_next_free_usd=0.1, quality_n=3, quality_mean=0.5,
        quality_low=0.4, quality_high=0.6,
    )  # fmt: skip


def sums(by: tuple[str, ...]) -> Stats:
    """The sums, by what is asked for."""
    keys: dict[str, list[tuple[str, ...]]] = {
        "model, layer": [("haiku", "app"), ("opus", "(none)")],
        "role, complexity, model": [("(none)", "S", "haiku")],
    }
    return Stats(
        journal="j", pool=None, since="2026-11-21T10:00:00.000Z", headline="4 tasks.", assumptions=("None.",),
        total=line(), by={one: tuple(line(*key) for key in keys.get(one, [("haiku",), ("(none)",)])) for one in by},
    )  # fmt: skip


def analytics(by: tuple[str, ...]) -> Analytics:
    """The sums, and one quality."""
    quality = QualityLine(model="haiku", complexity="S", n=3, mean=0.5, low=0.4, high=0.6, finished=3, failed=0)
    return Analytics(stats=sums(by), quality=(quality,))


def routed(by: tuple[str, ...]) -> Routed:
    """The sums, one hour of a tier, and one step of EVs."""
    return Routed(
        stats=sums(by),
        tiers=(TierHour(hour="2026-11-21T10:00:00.000Z", tier="1", routed=4, share=1.0, spent_usd=0.5),),
        evs=(EvStep(ev_from=1.0, model="haiku", routed=4),),
    )


LANE = LaneLine(
    lane="docs", state="healthy", decisions=9, routed=4, router_errors=0, router_error_share=0.0, fallbacks=1,
    fallback_share=0.25, last_decided_at="2026-11-21T10:00:00.000Z", restarted_at=None,
)  # fmt: skip
