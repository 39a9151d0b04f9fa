"""Who may do what over HTTP: every route of the application, with each token and with none."""

from __future__ import annotations

import inspect
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from streams.operate.retry import RetryError
from streams.settings import Settings
from streams.views.explain import Explained
from streams.views.lag import Look, report
from streams.web.access import ANYONE, ROLES, ROLES_KEY, RoleError, TokenFileError, Tokens, new_token, roles_of
from streams.web.application import application, routes
from streams.web.guard import FORM, is_page
from streams.web.rate import Rate
from streams.web.run import OpenToAllError, listen, tokens_of
from streams.web.state import caller_of, object_of
from tests.support.web_rig import WebRig

ALLOWED = sorted(
    (method, route.path, tuple((route.openapi_extra or {})[ROLES_KEY]))
    for route in routes(application(WebRig().web))
    for method in route.methods or ()
)
NO_LOOK = Look(at_ms=0, at_s=0.0, readings={})
#: What a route needs so that it does not wait.
QUERIES = {"/tasks/next": "?slot=s-1&wait_s=0"}


def test_only_probes_and_the_login_need_no_token() -> None:
    """A route that is added needs one; docs/http.md names those of every route (tests/test_openapi.py)."""
    assert {f"{method} {path}" for method, path, _ in ALLOWED if is_page(path)} == {
        *("GET /", "GET /ui/fleet", "GET /ui/waiting", "GET /ui/changes", "GET /ui/search"),
        *("GET /ui/decisions", "GET /ui/flow", "GET /ui/dead-letters", "GET /ui/tasks", "GET /ui/tasks/{task_id}"),
        *("GET /ui/routing", "GET /ui/analytics", "GET /ui/what-if"),
        *("GET /ui/controls", "POST /ui/controls/{name}", "POST /ui/dead-letters/{how}"),
        *("GET /ui/login", "POST /ui/login", "POST /ui/logout", "GET /ui/static/{name}"),
    }
    assert {f"{method} {path}" for method, path, roles in ALLOWED if ANYONE in roles} == {
        *("GET /health/live", "GET /health/ready", "GET /health/startup"),
        *("GET /ui/login", "POST /ui/login", "POST /ui/logout", "GET /ui/static/{name}"),
    }


async def _unknown(*_: object) -> None:
    raise RetryError("No pool knows it.")


@pytest.mark.parametrize("who", ["none", "wrong", *ROLES])
@pytest.mark.parametrize(("method", "path", "roles"), ALLOWED, ids=str)
async def test_each_route_serves_its_roles_only(
    method: str, path: str, roles: tuple[str, ...], who: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 without a known token, 403 without the role; with it, anything else."""
    monkeypatch.setattr("streams.operate.lag.SharedLag.report", lambda *_: report(NO_LOOK))
    monkeypatch.setattr("streams.web.routes.health.lanes", lambda *_: [])
    monkeypatch.setattr("streams.web.routes.tasks.explain", lambda *_, **__: [])
    monkeypatch.setattr("streams.web.pages.task.explain_whole", lambda *_, **__: Explained())
    monkeypatch.setattr("streams.web.pages.decisions.decisions_by_time", lambda *_, **__: [])
    monkeypatch.setattr("streams.web.routes.retry.find_ended", _unknown)
    rig = WebRig()
    rig.web.stop.set()  # the stream of events ends at once
    address = re.sub(r"\{\w+\}", "x-1", path.replace("{how}", "replay")) + QUERIES.get(path, "")
    is_form = method == "POST" and is_page(path)
    body: Any = b"" if is_form else {} if method == "POST" else None
    given: dict[str, Any] = {"role": who} if who in ROLES else {"token": "wrong"} if who == "wrong" else {}
    if is_form:
        given["content_type"] = FORM
    reply = await rig.ask(method, address, body, **given)
    if is_form and (ANYONE in roles or who in roles):
        assert reply.status in (303, 403), "a form is good with a session only"
    elif ANYONE in roles or who in roles:
        assert reply.status not in (401, 403, 405, 500), reply.body
    else:
        assert reply.status == (403 if who in ROLES else 401)
        kind = "text/html; charset=utf-8" if is_page(path) else "application/problem+json"
        assert reply.headers["content-type"] == kind


def test_no_route_hands_work_to_a_thread_before_it_begins() -> None:
    """FastAPI calls a dependency that is no coroutine in a thread, which costs more than the rest of a request."""

    def calls(dependant: Any) -> Iterator[Any]:
        yield from (dependant.call, *(one for part in dependant.dependencies for one in calls(part)))

    found = {call for route in routes(application(WebRig().web)) for call in calls(route.dependant)}
    assert {caller_of, object_of} <= found
    for call in found:
        assert inspect.iscoroutinefunction(call if inspect.isfunction(call) else type(call).__call__), call


def test_an_answer_is_not_delayed_by_the_network() -> None:
    """Its body does not wait for the acknowledgement of its head."""
    with listen(uvicorn.Config(application(WebRig().web), port=0)) as server:
        server.listen()
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


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


def test_a_bucket_is_full_at_first_and_fills_at_the_rate() -> None:
    """Two seconds' worth at once, then as much as the rate; each has its own, and a long silence saves no more."""
    now_s = [100.0]
    rate = Rate(4, lambda: now_s[0])
    assert [rate.take("a") for _ in range(8)] == [0.0] * 8
    assert rate.take("a") == 0.25
    assert rate.take("b") == 0.0
    now_s[0] += 0.125
    assert rate.take("a") == 0.125, "what was refused costs nothing"
    now_s[0] += 0.125
    assert [rate.take("a") > 0 for _ in range(2)] == [False, True]
    now_s[0] += 3600
    assert [rate.take("a") > 0 for _ in range(9)] == [False] * 8 + [True]
    assert all(Rate(0, lambda: 0.0).take("a") == 0.0 for _ in range(1000))


async def test_who_sends_too_many_requests_is_asked_to_wait() -> None:
    """429 as a problem with Retry-After, by token; others are served, and probes always are."""
    rig = WebRig(http_token_rate=1.0)
    for _ in range(2):
        assert (await rig.ask("GET", "/waiting", role="reader")).status == 200
    reply = await rig.ask("GET", "/waiting", role="reader")
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert (reply.json["title"], "Retry-After" in reply.json["detail"]) == ("Too Many Requests", True)
    assert (await rig.ask("GET", "/waiting", role="operator")).status == 200
    assert (await rig.ask("GET", "/health/ready")).status == 200


async def test_without_tokens_addresses_are_counted_where_that_is_configured() -> None:
    """By default they are not."""
    rig = WebRig(tokens=False, http_address_rate=1.0)
    assert [(await rig.ask("GET", "/waiting")).status for _ in range(3)] == [200, 200, 429]
    rig = WebRig(tokens=False, http_token_rate=1.0)
    assert [(await rig.ask("GET", "/waiting")).status for _ in range(5)] == [200] * 5


async def test_a_body_that_is_larger_than_it_says_is_refused() -> None:
    """The bytes are counted, not believed."""
    large = b'{"title":"%s"}' % (b"x" * 262_144)
    assert (await WebRig().ask("POST", "/tasks", large, role="producer", content_length="10")).status == 413


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops in the middle keeps no request open."""
    monkeypatch.setattr("streams.web.guard.BODY_S_MAX", 0.0)
    rig = WebRig()
    rig.unfinished = True
    reply = await rig.ask("POST", "/tasks", b"{", role="producer")
    assert (reply.status, reply.headers["content-type"]) == (408, "application/problem+json")


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
