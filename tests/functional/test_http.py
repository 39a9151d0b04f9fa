"""The HTTP API of a running installation: a task from its submission to its end, and an order."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.functional.commands import Up, until


def ask(up: Up, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request, and return status and body."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        up.at.http + path, content, {"Content-Type": "application/json"} if content else {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=70) as reply:
            raw = reply.read()
            return reply.status, json.loads(raw) if raw else None
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_a_task_goes_its_way_by_http_alone(data_dir: Path) -> None:
    """Submitted, routed, given to its slot, renewed, freed, finished; it is in the audit, and a lane is healthy."""
    with Up(data_dir) as up:
        assert up.at.http in up.output.read_text()
        until(lambda: ask(up, "GET", "/health/ready")[0] == 200, "the state is known")
        slot = {"slot_id": "h-1", "pool": "main", "model": "haiku"}
        assert ask(up, "POST", "/slots", slot)[0] == 202
        tasks = [{"task_id": f"t-{n}", "pool": "main", "lane": "docs", "payload": {"n": n}} for n in range(2)]
        assert ask(up, "POST", "/tasks", tasks)[1]["acknowledged"] == 2
        after = 0
        for _ in tasks:
            status, work = ask(up, "GET", f"/tasks/next?slot=h-1&wait_s=30&after={after}")
            assert status == 200, work
            after = work["lease"]
            assert work["payload"] == {"n": int(work["task_id"][2:])}
            lease = {"pool": "main", "lease": after}
            assert ask(up, "POST", "/slots/h-1/renew", lease)[1]["current"] is True
            outcome = {"task_id": work["task_id"], "status": "success"}
            assert ask(up, "POST", "/slots/h-1/freed", {**lease, "outcome": outcome})[0] == 202
        for task in tasks:
            _, read = ask(up, "GET", f"/tasks/{task['task_id']}?wait_for=finished&wait_s=30")
            assert read["state"] == "finished", read
            assert read["decision"]["model"] == "haiku"
        until(lambda: ask(up, "GET", "/tasks/t-1/decisions")[1]["decisions"], "the audit has it")
        until(lambda: ask(up, "GET", "/health")[1]["lanes"], "the lanes are known")
        _, health = ask(up, "GET", "/health")
        assert [one["lane"] for one in health["lanes"]] == ["docs"]
        assert ask(up, "POST", "/route", {"task": {"title": "x"}})[1]["decision"]["slot_id"] == "h-1"
        assert ask(up, "POST", "/controls", {"kind": "model.drained", "model": "haiku"})[0] == 404
        assert ask(up, "GET", "/fleet")[1]["well"] is True
