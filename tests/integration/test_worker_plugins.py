"""A worker with plug-ins of a user's package: three that work, one that raises, and one that never comes back."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from schemas.vocabulary import INPUT_TOPICS
from streams.core.router import Router
from streams.replay.verify import Verification, verify
from streams.shipped import file_rulebook
from tests.support.installation import Installation, Worker, until
from tests.support.plugins import install, install_example

#: What a call may take is far more than a healthy one takes on a slow machine.
POLICY = """
[strategy]
default = "fastest_first"

[plugins]
scorer = "worth"
strategies = ["fastest_first"]
rules = ["own_machines", "explodes", "hangs"]
time_limit_s = 2.0
batch_limit_s = 10.0
failures_max = 3
pause_s = 600.0
"""

#: Opening a pipe for reading waits for a writer.
BAD = """
import os

def explodes(task, model):
    raise RuntimeError("on purpose")

def hangs(task, model):
    with open(os.environ["HANGING"]) as pipe:
        pipe.read()
"""
BAD_RULES = {"slotwise.rules": {"explodes": "bad_plugins:explodes", "hangs": "bad_plugins:hangs"}}
FLEET = ("opus", "sonnet", "haiku", "gemini-flash", "local")


@pytest.fixture
def _packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the packages where the workers of a test find them, and a pipe that has no writer."""
    folder, pipe = tmp_path / "site", tmp_path / "pipe"
    install_example(folder)
    install(folder, "bad_plugins", BAD_RULES, BAD)
    os.mkfifo(pipe)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HANGING", str(pipe))


def count(worker: Worker, plugin: str, kind: str) -> float:
    """Read off the worker's metrics how often a rule did not answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.settings.web_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    found = re.search(
        rf'^router_plugin_failures_total{{kind="{kind}",plugin="{plugin}",role="rule"}} (\S+)$', text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


@pytest.mark.usefixtures("_packages")
async def test_the_router_goes_on_whatever_plug_ins_do(tansu: str, tmp_path: Path) -> None:
    """What the good ones say decides, what the bad ones would have said is flagged, and the worker can be stopped."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    async with Installation(tansu, tmp_path, partitions=1, policy=str(policy)) as installation:
        worker = installation.worker()
        await worker.ready(1)
        for model in FLEET:
            await installation.slot(f"{model}-1", "main", model=model)
        # Slots and tasks are two topics: a task that overtakes a slot is decided without it.
        await installation.sound()
        await installation.task("legal", "main", layer="legal")
        await installation.task("bug", "main", task_type="bug")
        await installation.sound()
        for number in range(5):
            await installation.task(f"more-{number}", "main")
        (found,) = await installation.sound()
        latest = {one["task_id"]: one for one in found.decisions}
        rules = file_rulebook(worker.settings)
        fastest = max(FLEET, key=lambda model: rules.models[model].speed_tps or 0.0)

        assert latest["legal"]["chosen_model"] == "local"
        assert latest["legal"]["alternatives"]["opus"]["gate"] == "boundary"
        assert (latest["bug"]["chosen_model"], latest["bug"]["strategy"]) == (fastest, "fastest_first")
        assert latest["bug"]["ev"] == 60.0
        assert len(latest) == 7
        assert all("plugin_failed" in one["flags"] for one in latest.values())

        assert count(worker, "explodes", "raised") == 3, "then it is left alone"
        assert count(worker, "explodes", "unasked") == 4
        assert count(worker, "hangs", "slow") == 1
        assert count(worker, "hangs", "unasked") == 6
        assert count(worker, "own_machines", "slow") == 0
        told = worker.log_file.read_text()
        assert told.count("the rule explodes failed 3 times in a row") == 1
        assert "RuntimeError: on purpose" in told

        journal = [record.value for record in await installation.records(installation.names.journal)]
        said = [advice for value in journal for _, advice in json.loads(value).get("advice", ())]
        assert len(said) == 7
        assert all({"explodes", "hangs"} <= set(one["failed"]) for one in said)
        derived = await verified(installation, Router(0, rules))
        assert (derived.steps, derived.difference) == (len(journal), None)
        assert await worker.stop() == 0, "what hangs does not hold up the end"


async def verified(installation: Installation, router: Router) -> Verification:
    """The steps derived again, without a plug-in."""
    journal = [record.value for record in await installation.records(installation.names.journal)]
    inputs: list[dict[int, Any]] = [
        {record.offset: record for record in await installation.records(installation.names.of(topic))}
        for topic in INPUT_TOPICS
    ]
    return verify(router, enumerate(journal), inputs)


async def test_a_plug_in_that_is_not_installed_stops_the_start(tansu: str, tmp_path: Path) -> None:
    """With the sentence that helps, and the exit code of a refusal."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[plugins]\nscorer = "worth"\n')
    async with Installation(tansu, tmp_path, partitions=1, policy=str(policy)) as installation:
        worker = installation.worker()

        async def ended() -> bool:
            return worker.process.poll() is not None

        await until("the worker has ended", ended)
        assert worker.process.returncode == 2
        (sentence,) = worker.log_file.read_text().splitlines()
        assert sentence.startswith("policy.toml: plugins: the scorer worth is not installed: install the package")
