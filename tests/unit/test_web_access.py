"""Who may do what over HTTP: every route of the application, with each token and with none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streams.settings import Settings
from streams.web.access import ANYONE, ROLES, ROLES_KEY, RoleError, TokenFileError, Tokens, new_token, roles_of
from streams.web.application import application, routes
from streams.web.run import OpenToAllError, tokens_of
from tests.support.web_rig import WebRig

ALLOWED = sorted(
    (method, route.path, tuple((route.openapi_extra or {})[ROLES_KEY]))
    for route in routes(application(WebRig().web))
    for method in route.methods or ()
)
#: What a route needs so that it does not wait.
QUERIES = {"/tasks/next": "?slot=s-1&wait_s=0"}


def test_the_routes_are_those_of_the_documentation() -> None:
    """A route that is added shows up here, with the roles that may use it."""
    assert {f"{method} {path}" for method, path, _ in ALLOWED} == {
        *("GET /health", "GET /health/live", "GET /health/ready", "GET /health/startup"),
        *("POST /tasks", "GET /tasks/next", "GET /tasks/{task_id}", "GET /tasks/{task_id}/decisions"),
        *("DELETE /tasks/{task_id}", "POST /route", "POST /slots", "GET /slots", "POST /slots/{slot_id}/freed"),
        *("POST /slots/{slot_id}/renew", "GET /decisions", "GET /fleet", "GET /waiting", "GET /events"),
        "POST /controls",
    }
    assert [path for _, path, roles in ALLOWED if ANYONE in roles] == [
        "/health/live",
        "/health/ready",
        "/health/startup",
    ]


@pytest.mark.parametrize("who", ["none", "wrong", *ROLES])
@pytest.mark.parametrize(("method", "path", "roles"), ALLOWED, ids=str)
async def test_each_route_serves_its_roles_only(
    method: str, path: str, roles: tuple[str, ...], who: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 without a known token, 403 without the role; with it, anything else."""
    monkeypatch.setattr("streams.web.routes.health.lanes", lambda *_: [])
    monkeypatch.setattr("streams.web.routes.tasks.explain", lambda *_, **__: [])
    rig = WebRig()
    rig.web.stop.set()  # the stream of events ends at once
    address = re.sub(r"\{\w+\}", "x-1", path) + QUERIES.get(path, "")
    body: dict[str, str] | None = {} if method == "POST" else None
    given = {"role": who} if who in ROLES else {"token": "wrong"} if who == "wrong" else {}
    reply = await rig.ask(method, address, body, **given)
    if ANYONE in roles or who in roles:
        assert reply.status not in (401, 403, 405, 500), reply.body
    else:
        assert reply.status == (403 if who in ROLES else 401)
        assert reply.headers["content-type"] == "application/problem+json"


async def test_without_tokens_this_machine_is_served_without_orders() -> None:
    """Orders are absent, not open; another machine is served nothing."""
    rig = WebRig(tokens=False)
    assert (await rig.ask("GET", "/waiting")).status == 200
    assert (await rig.ask("POST", "/controls", {"kind": "model.drained", "model": "opus"})).status == 404
    assert "/controls" not in (await rig.ask("GET", "/openapi.json")).json["paths"]
    away = WebRig(tokens=False, client="10.0.0.7")
    assert (await away.ask("GET", "/waiting")).status == 403
    assert (await away.ask("GET", "/health/live")).status == 200


async def test_every_token_is_compared_and_only_as_bearer() -> None:
    """A known token under another scheme is none."""
    rig = WebRig()
    for scheme, status in (("Bearer", 200), ("bearer", 200), ("Basic", 401), ("", 401)):
        reply = await rig.ask("GET", "/waiting", authorization=f"{scheme} {rig.tokens['reader']}")
        assert reply.status == status, scheme


def test_a_file_of_tokens_holds_hashes_and_names_its_mistakes() -> None:
    """A line is what `slotwise token` prints."""
    token, line = new_token(("reader", "operator"), "ops")
    assert token not in line
    assert Tokens.read(f"# ours\n\n{line}\n", "t").configured
    for text in ("", "# none", "reader ops", line.replace("operator", "owner"), line[:-1]):
        with pytest.raises(TokenFileError, match="token"):
            Tokens.read(text, "t")
    assert roles_of(["operator", "reader"], "a") == ("reader", "operator")
    with pytest.raises(RoleError, match="there are producer, dispatcher"):
        roles_of(["root"], "a")
    with pytest.raises(RoleError, match="no name"):
        roles_of(["reader"], "a b")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org", "::"])
def test_an_address_that_others_reach_needs_tokens(host: str) -> None:
    """The server does not start."""
    with pytest.raises(OpenToAllError, match="slotwise token"):
        tokens_of(Settings(http_host=host))
    assert not tokens_of(Settings()).configured


@pytest.mark.parametrize(
    ("which", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": ""}, 421),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_length": "262145"}, 413),
    ],
)
async def test_a_request_of_another_form_is_refused_before_any_route(which: dict[str, str], status: int) -> None:
    """With a problem, the headers of every answer and the correlation id of the request."""
    reply = await WebRig().ask("POST", "/tasks", {}, role="producer", x_correlation_id="c-1", **which)
    assert reply.status == reply.json["status"] == status
    assert reply.json["correlation_id"] == reply.headers["x-correlation-id"] == "c-1"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]


async def test_a_body_that_is_larger_than_it_says_is_refused() -> None:
    """The bytes are counted, not believed."""
    large = b'{"title":"%s"}' % (b"x" * 262_144)
    assert (await WebRig().ask("POST", "/tasks", large, role="producer", content_length="10")).status == 413


async def test_a_mistake_of_ours_shows_an_id_and_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the rest."""

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("streams.web.routes.fleet.overview", fails)
    reply = await WebRig().ask("GET", "/fleet", role="reader")
    assert reply.status == 500
    assert b"Traceback" not in reply.body
    assert b"secret" not in reply.body
    assert reply.json["correlation_id"] == reply.headers["x-correlation-id"]
