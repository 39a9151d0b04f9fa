"""`slotwise policy propose`: every step is asked first and recorded, and one that is refused or fails ends it."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from schemas.events import FleetControl, PolicyActivated, PolicyProposed
from streams import cli
from streams.commands import policy, what_if
from streams.core.policy.rulebook import Rulebook
from streams.database.connection import DatabaseError
from streams.operate import orders
from streams.operate.orders import Position, Submitted
from streams.replay.what_if import NothingRecorded
from streams.settings import Settings
from streams.shadow.report import ShadowReport
from streams.shipped import file_rulebook
from tests.support.every_command import unplugged
from tests.support.shadow_rows import RUN

LIFT = "[lift]\nev_percentile = 0.70\n"

#: What a shadow found.
FOUND = ShadowReport(run=replace(RUN, says="3 live decisions compared."), differences=(), more=0)


async def follow(
    settings: Settings, _name: str, rulebook: Rulebook, stop: asyncio.Event, ready: Callable[[str], None]
) -> None:
    """Follow nothing until the end: the live rules are those of the settings, and not the proposed ones."""
    assert file_rulebook(settings).policy_hash != rulebook.policy_hash
    ready("It follows.")
    await stop.wait()


class Terminal(io.StringIO):
    """Answers typed on a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Ran(Struct):
    """What a run came to."""

    code: int
    out: str
    err: str
    sent: list[FleetControl]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The recorded steps with their outcomes."""
        return [(one.step, one.outcome) for one in self.sent if isinstance(one, PolicyProposed)]

    @property
    def activated(self) -> list[PolicyActivated]:
        """What was activated."""
        return [one for one in self.sent if isinstance(one, PolicyActivated)]


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FleetControl]]:
    """Give the events that are sent: no broker, and the recorded work is that of the sample."""
    found: list[FleetControl] = []

    def submit(_settings: Settings, event: FleetControl, *, wait_s: float | None) -> Submitted:
        found.append(event)
        status = Position(partition=0, offset=len(found), status="sent" if wait_s is None else "taken")
        kind = str(type(event).__struct_config__.tag)
        return Submitted(
            control_id=event.control_id, kind=kind, topic="t", at=event.at, by=event.by, pool=None, positions=(status,)
        )

    with unplugged(tmp_path):
        monkeypatch.setattr(orders, "submit", submit)
        monkeypatch.setattr(what_if, "recordings_of", lambda settings, *_: [what_if._sample(settings, 20)])
        monkeypatch.setattr("streams.topics.check_topics", lambda *_: None)
        monkeypatch.setattr("streams.shadow.run.follow", follow)
        monkeypatch.setattr("streams.shadow.report.report", lambda *_, **__: FOUND)
        monkeypatch.setattr("streams.shadow.report.end", lambda *_, **__: 1)
        (tmp_path / "p70.toml").write_text(LIFT)
        yield found


def propose(sent: list[FleetControl], capsys: pytest.CaptureFixture[str], answers: str | None, *arguments: str) -> Ran:
    """Propose the lift from P70, with these answers on a terminal; None: there is no terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO() if answers is None else Terminal(answers))
        with pytest.raises(SystemExit) as end:
            cli.main(["policy", "propose", "p70.toml", "--shadow", "0.01s", *arguments])
    out, err = capsys.readouterr()
    return Ran(int(end.value.code or 0), out, err, sent)


def test_all_steps_are_taken_in_order_and_recorded(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str]
) -> None:
    """Three questions; the events have one id, the hashes of the proposed rules, and what each step found."""
    ran = propose(sent, capsys, "y\ny\ny\n", "--by", "ops")
    assert ran.code == 0
    assert ran.steps == [(step, "done") for step in ("check", "diff", "replay", "shadow", "report")]
    assert "lift.ev_percentile 0.9 -> 0.7" in ran.out
    (activated,) = ran.activated
    assert activated.policy_text is not None
    first = ran.sent[0]
    assert {one.control_id.rpartition("-")[0] for one in ran.sent} == {first.control_id.rpartition("-")[0]}
    assert {one.by for one in ran.sent} == {"ops"}
    proposed = [one for one in ran.sent if isinstance(one, PolicyProposed)]
    assert {(one.policy, one.catalog) for one in proposed} == {(activated.policy, activated.catalog)}
    assert proposed[1].found == "lift.ev_percentile 0.9 -> 0.7"
    assert "tasks got another model" in proposed[2].found
    assert "3 live decisions compared. Differences: 1 other model." in proposed[3].found


@pytest.mark.parametrize(
    ("answers", "last", "taken"),
    [
        ("n\n", "replay", ["check", "diff"]),
        ("y\nn\n", "shadow", ["check", "diff", "replay"]),
        ("y\ny\nn\n", "activate", ["check", "diff", "replay", "shadow", "report"]),
    ],
)
def test_a_step_can_be_refused(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str], answers: str, last: str, taken: list[str]
) -> None:
    """Nothing is activated, the exit code is 1, and the audit knows at which step it was."""
    ran = propose(sent, capsys, answers)
    assert ran.code == 1
    assert ran.activated == []
    assert ran.steps == [*((step, "done") for step in taken), (last, "refused")]


@pytest.mark.parametrize(
    ("until", "taken"),
    [("check", ["check"]), ("diff", ["check", "diff"]), ("replay", ["check", "diff", "replay"])],
)
def test_it_ends_after_the_step_that_is_named(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str], until: str, taken: list[str]
) -> None:
    """Without a question where it ends before the first one."""
    ran = propose(sent, capsys, "y\n" if until == "replay" else None, "--until", until)
    assert (ran.code, ran.activated) == (0, [])
    assert ran.steps == [(step, "done") for step in taken]


def test_for_scripts_it_asks_nothing_and_says_all_as_json(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --yes; without it and without a terminal nothing is begun."""
    ran = propose(sent, capsys, None, "--yes", "--json")
    found = json.loads(ran.out)
    assert ran.code == 0
    assert [one["step"] for one in found["steps"]] == ["check", "diff", "replay", "shadow", "report"]
    assert found["shadow"]["run"]["changed"] == 1
    assert found["activated"]["kind"] == "policy.activated"
    assert found["replay"]["replayed_rules"]["policy"] == found["policy"]
    sent.clear()
    assert propose(sent, capsys, None).code == 2
    assert sent == []


def test_a_shadow_can_be_left_out_and_that_is_recorded(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a step that was refused, though the proposal goes on."""
    ran = propose(sent, capsys, None, "--yes", "--shadow", "none")
    assert ran.steps[3:] == [("shadow", "refused"), ("report", "done")]
    assert len(ran.activated) == 1


def test_a_shadow_that_ends_by_itself_ends_the_proposal(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sentence is recorded, and its run is ended in the database all the same."""
    ended: list[str] = []

    async def refused(*_: object) -> None:
        raise NothingRecorded("A shadow of this name is under way.")

    monkeypatch.setattr("streams.shadow.run.follow", refused)
    monkeypatch.setattr("streams.shadow.report.end", lambda _dsn, name, **_: ended.append(name))
    ran = propose(sent, capsys, None, "--yes")
    assert ran.code == 2
    assert ran.steps[-1] == ("shadow", "failed")
    assert ran.activated == []
    assert len(ended) == 1


def test_a_step_that_fails_is_recorded_and_ends_it(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was recorded there is nothing to replay, and so nothing is activated."""

    def nothing(*_: object) -> None:
        raise NothingRecorded("No task was routed in this window.")

    monkeypatch.setattr(what_if, "recordings_of", nothing)
    ran = propose(sent, capsys, None, "--yes")
    assert ran.code == 2
    assert ran.steps == [("check", "done"), ("diff", "done"), ("replay", "failed")]
    assert ran.activated == []


def test_the_first_activation_shows_what_differs_from_the_configured_files(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that is named is not yet in force, though the router in memory here would begin with it."""
    with pytest.raises(SystemExit) as end:
        cli.main(["policy", "activate", "--policy", "p70.toml", "--yes"])
    assert end.value.code == 0
    err = capsys.readouterr().err
    assert "lift.ev_percentile 0.9 -> 0.7" in err
    assert "Whether these rules were ever replayed is not known" in err
    assert len(sent) == 1


@pytest.mark.parametrize("words", [[], ["--fleet", "opus=2,haiku=3"]], ids=["its slots", "other slots"])
def test_a_replay_by_hand_is_recorded_as_a_step_towards_its_rules(
    sent: list[FleetControl], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """On demand: one event with the hashes of what was replayed, which an activation then finds; else none."""
    for record in ([], ["--record", "--by", "ops"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["replay", "--policy", "p70.toml", *words, *record])
        assert not end.value.code
        assert len(sent) == (1 if record else 0)
    (event,) = sent
    assert isinstance(event, PolicyProposed)
    rulebook = file_rulebook(Settings(policy="p70.toml"))
    assert (event.policy, event.catalog) == (rulebook.policy_hash, rulebook.catalog_hash)
    assert (event.step, event.outcome, event.by) == ("replay", "done", "ops")
    shown = capsys.readouterr().out.splitlines()
    changed = next(line for line in shown if "got another model" in line)
    assert event.found == f"{shown[0]} {changed}"


def test_a_replay_that_fails_or_is_of_no_work_of_ones_own_is_not_recorded(
    sent: list[FleetControl], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled sample says nothing of this installation."""
    with pytest.raises(SystemExit):
        cli.main(["replay", "--policy", "p70.toml", "--sample", "50", "--record"])
    assert "of a replay of your own work" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(what_if, "recordings_of", lambda *_: [])
    with pytest.raises(SystemExit):
        cli.main(["replay", "--policy", "p70.toml", "--record"])
    assert "No task was routed" in capsys.readouterr().err
    assert sent == []


def test_rules_that_were_never_replayed_say_so_at_their_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the audit has the replay; where it does not answer, that is said."""
    rulebook = file_rulebook(Settings())
    answers: list[bool | Exception] = [True, False, DatabaseError("Postgres is away.")]

    def was_replayed(*_: object, **__: object) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("streams.views.proposals.was_replayed", was_replayed)
    said = [policy.never_replayed(Settings(), rulebook) for _ in range(3)]
    assert said[0] is None
    assert said[1] is not None
    assert said[1].startswith("These rules were never replayed")
    assert said[2] is not None
    assert "Postgres is away." in said[2]
