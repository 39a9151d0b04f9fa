"""The HTTP API under requests made from its own description: no answer is a mistake of the server."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from streams.operate.orders import Position, Submitted
from streams.views.lag import Look, report
from streams.views.stats import Stats
from streams.web.access import ROLES, Tokens, new_token
from streams.web.application import guarded
from tests.support.web_rig import WebRig

#: As the client of Schemathesis calls the server that it holds in memory.
HOST = "testserver"
TRIES = max(20, settings().max_examples // 10)


@pytest.fixture(name="api")
def _api(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The description of an application without a broker or a database behind it; nothing is waited for."""

    def submit(_settings: Any, event: Any, **_named: Any) -> Submitted:
        position = Position(partition=0, offset=7, status="taken")
        return Submitted(
            control_id=event.control_id,
            kind="tried",
            topic="fleet.control",
            at=event.at,
            by=event.by,
            pool=None,
            positions=(position,),
        )

    async def check(*_: Any) -> None:
        """Every name is known."""

    monkeypatch.setattr("streams.web.routes.controls.submit", submit)
    monkeypatch.setattr("streams.web.routes.controls.check", check)
    monkeypatch.setattr("streams.web.routes.tasks.explain", lambda *_, **__: [])
    monkeypatch.setattr("streams.operate.lag.SharedLag.report", lambda *_: report(Look(at_ms=0, at_s=0.0, readings={})))
    nothing: dict[str, Any] = {"headline": "Nothing.", "assumptions": (), "total": None}
    monkeypatch.setattr(
        "streams.web.routes.stats.view.stats",
        lambda _dsn, journal, *, by, since, pool, **_: Stats(
            journal=journal, pool=pool, since=since.isoformat(), by=dict.fromkeys(by, ()), **nothing
        ),
    )
    rig = WebRig()
    token, line = new_token(ROLES, "all")
    rig.web.stop.set()
    web = replace(rig.web, settings=replace(rig.settings, http_names=HOST), tokens=Tokens.read(line, "tokens"))
    loaded = schemathesis.openapi.from_asgi("/openapi.json", guarded(web))
    loaded.config.update(headers={"Authorization": f"Bearer {token}"})
    return loaded


@pytest.mark.timeout(600)
def test_no_request_is_a_mistake_of_the_server(api: Any) -> None:
    """Whatever the description allows, for each of its routes."""
    seen = set()
    for found in api.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=TRIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def tried(case: Any) -> None:
            status = case.call().status_code
            assert status < HTTPStatus.INTERNAL_SERVER_ERROR, case
            seen.add((operation.label, status // 100))  # noqa: B023 - it is called before the next one is made

        tried()
    assert {("POST /tasks", 2), ("POST /slots", 2), ("POST /controls", 2), ("POST /route", 4)} <= seen
