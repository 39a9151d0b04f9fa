"""`slotwise policy propose`: another policy step by step, each of which can be refused; the audit has all of them.

Every step is an event of the journal (`policy.proposed`) under one id, and the activation that may end it begins with
the same id. So the audit says who saw what before the rules were changed.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import Struct
from msgspec.structs import replace

from schemas.events import FleetControl, PolicyActivated
from schemas.vocabulary import ProposalStep, StepOutcome, from_millis
from streams.clock import SystemClock
from streams.commands import policy, what_if
from streams.commands.confirm import confirm
from streams.commands.console import busy, line, out, print_json
from streams.commands.control import SETTINGS, By, WaitS, login, print_submitted
from streams.commands.options import Json, page_file, takes
from streams.commands.proposal_step import record_step
from streams.core.policy.difference import differences
from streams.core.policy.rulebook import Rulebook
from streams.errors import FAILED, SlotwiseError
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.text_file import read_text_file
from streams.views.units import span

if TYPE_CHECKING:
    from streams.operate.orders import Submitted
    from streams.replay.what_if import WhatIf
    from streams.shadow.report import ShadowReport

app = typer.Typer()

#: Leaves out the shadow.
NO_SHADOW: Final = "none"
_UNASKED: Final = typer.BadParameter(
    "there is no terminal to ask on: add --yes, or end before the first question with --until diff.", param_hint="--yes"
)


class Until(StrEnum):
    """The step after which a proposal ends."""

    check = "check"
    diff = "diff"
    replay = "replay"
    shadow = "shadow"
    report = "report"
    activate = "activate"

    def reaches(self, step: Until) -> bool:
        """Whether a proposal that ends after this step takes the given one."""
        order = list(Until)
        return order.index(self) >= order.index(step)


class Taken(Struct, frozen=True):
    """A step, and what it came to."""

    step: ProposalStep
    outcome: StepOutcome
    found: str


class Proposed(Struct, frozen=True, kw_only=True):
    """A proposal at its end."""

    proposal: str
    policy: str
    catalog: str
    steps: tuple[Taken, ...]
    #: What the replayed window would have come to; None: it was not replayed.
    replay: WhatIf | None
    #: What these rules decided otherwise beside the live ones; None: they did not run beside them.
    shadow: ShadowReport | None
    #: None: nothing was activated.
    activated: Submitted | None


class _Proposal:
    """Writes its steps into the journal, as they are taken."""

    def __init__(self, settings: Settings, rulebook: Rulebook, by: str) -> None:
        self.id = str(uuid.uuid4())
        self.rulebook = rulebook
        self.steps: list[Taken] = []
        self._settings = settings
        self._by = by

    def took(self, step: ProposalStep, outcome: StepOutcome, found: str) -> None:
        """Record a step."""
        self.steps.append(Taken(step, outcome, found))
        record_step(self._settings, self.rulebook, self.id, by=self._by, step=step, outcome=outcome, found=found)

    def activation(self) -> PolicyActivated:
        """Return the event that puts the rules in force."""
        return PolicyActivated(
            control_id=f"{self.id}-activate",
            at=from_millis(SystemClock().now_ms()),
            by=self._by,
            policy=self.rulebook.policy_hash,
            catalog=self.rulebook.catalog_hash,
            policy_text=self.rulebook.policy_text,
            catalog_text=self.rulebook.catalog_text,
        )


@app.command("propose", epilog="Example: slotwise policy propose my-policy.toml --from 24h --until report")
@takes(*SETTINGS, "database", "database_connect_timeout_s", "database_statement_timeout_s", join=True)
def propose(
    settings: Settings,
    *,
    file: Annotated[Path, typer.Argument(help="A policy, or a catalogue.", show_default=False)],
    since: Annotated[
        str, typer.Option("--from", metavar="SPAN|ISO", help="Replay what was decided since then.")
    ] = "24h",
    shadow: Annotated[
        str,
        typer.Option(metavar="SPAN|none", help="Decide beside the live rules for so long, 10m or 90s; none: do not."),
    ] = "10m",
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report of the replay as one HTML file, too.", callback=page_file),
    ] = None,
    until: Annotated[Until, typer.Option(help="End after this step.")] = Until.activate,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a step; for scripts.")] = False,
    by: By = None,
    wait_s: WaitS = 30.0,
    as_json: Json = False,
) -> None:
    """Check a policy, show what differs, replay recorded work under it, run it as a shadow, report, and activate it.

    You are asked before the replay, the shadow and the activation; Ctrl-C ends a shadow early. Every step stands in
    the audit, refused ones too (v_fleet_controls, kind policy.proposed). Exit code 1: a step was refused or failed, and
    nothing was activated.
    """
    from streams.operate.moments import seconds  # noqa: PLC0415 - as the command's other parts
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along

    shadow_s = None if shadow == NO_SHADOW else seconds(shadow)
    if not yes and until.reaches(Until.replay) and not sys.stdin.isatty():
        raise _UNASKED
    text = read_text_file(file)
    check_topics(settings, "operator")
    # By the settings as they are: before the first activation the configured files are in force.
    active = policy.active_rules(settings, offline=False)[0]
    named = "catalog" if policy.is_catalog(text) else "policy"
    live, settings = settings, replace(settings, **{named: str(file)})
    rulebook = file_rulebook(settings)
    proposal = _Proposal(settings, rulebook, by or login())
    replay: WhatIf | None = None
    beside: ShadowReport | None = None
    submitted: Submitted | None = None
    try:
        _check(settings, proposal)
        if until.reaches(Until.diff):
            _diff(proposal, active, quiet=as_json)
        if until.reaches(Until.replay):
            replay = _replay(settings, proposal, since, yes=yes, quiet=as_json)
        if until.reaches(Until.shadow):
            beside = _shadow(live, proposal, shadow_s, yes=yes, quiet=as_json)
        if until.reaches(Until.report) and replay is not None:
            _report(proposal, replay, html, quiet=as_json)
        if until.reaches(Until.activate):
            submitted = _activate(settings, proposal, wait_s, yes=yes, quiet=as_json)
    finally:
        if as_json:
            print_json(
                Proposed(
                    proposal=proposal.id,
                    policy=rulebook.policy_hash,
                    catalog=rulebook.catalog_hash,
                    steps=tuple(proposal.steps),
                    replay=replay,
                    shadow=beside,
                    activated=submitted,
                )
            )
    if submitted is None:
        return
    if not as_json:
        print_submitted(submitted, waited=True, as_json=False)
    elif submitted.refused or submitted.open:
        raise typer.Exit(FAILED)


def _check(settings: Settings, proposal: _Proposal) -> None:
    """Ask whether every partition could take the rules, with the plug-ins that are installed here."""
    from streams.operate.orders import check  # noqa: PLC0415 - brings the Kafka client along
    from streams.plugins.advisor import Plugins  # noqa: PLC0415

    with _failing(proposal, "check"):
        Plugins().check(proposal.rulebook)
        asyncio.run(check(settings, proposal.activation()))
    proposal.took("check", "done", "No mistakes, and every partition could decide by these rules.")


def _diff(proposal: _Proposal, active: Rulebook, *, quiet: bool) -> None:
    new = proposal.rulebook
    found = (*differences(active.policy, new.policy), *differences(active.catalog, new.catalog))
    if not quiet:
        policy.print_differences(found, out)
    proposal.took("diff", "done", "; ".join(map(policy.difference_line, found)) or "No value differs.")


def _replay(settings: Settings, proposal: _Proposal, since: str, *, yes: bool, quiet: bool) -> WhatIf:
    from streams.commands import what_if_text  # noqa: PLC0415 - brings the router along
    from streams.operate.what_if_words import changed  # noqa: PLC0415

    _ask(proposal, "replay", f"Replay what was decided since {since} under these rules?", yes=yes)
    asked = what_if.Asked(
        since=since,
        until=None,
        partitions=(),
        recording=None,
        sample=None,
        fleet=None,
        times="fitted",
        starved_after_s=3_600.0,
        html=None,
        as_json=quiet,
    )
    with _failing(proposal, "replay"):
        found = what_if.replayed(settings, asked)
    if not quiet:
        out.print(what_if_text.render(found))
    proposal.took("replay", "done", f"Since {since}: {changed(found)}")
    return found


def _shadow(
    live: Settings, proposal: _Proposal, seconds: float | None, *, yes: bool, quiet: bool
) -> ShadowReport | None:
    from streams.commands.propose_shadow import beside  # noqa: PLC0415 - brings the clients along
    from streams.topics import check_topics  # noqa: PLC0415

    if seconds is None:
        proposal.took("shadow", "refused", f"Left out by --shadow {NO_SHADOW}.")
        return None
    _ask(proposal, "shadow", f"Let these rules decide beside the live ones for {span(seconds)}?", yes=yes)
    with _failing(proposal, "shadow"):
        check_topics(live, "shadow")
        name = f"propose-{proposal.id[:8]}"
        with busy("seconds beside the live rules:", quiet=quiet, total=ceil(seconds)) as progress:
            found = beside(live, name, proposal.rulebook, seconds, progress)
    says = f"For {span(seconds)}: {found.run.says} {found.run.kinds}"
    if not quiet:
        out.print(line(f"{says} See `slotwise shadow diff {name}`."))
    proposal.took("shadow", "done", says)
    return found


def _report(proposal: _Proposal, replay: WhatIf, html: Path | None, *, quiet: bool) -> None:
    """Say in a few lines what was seen, which is what the audit keeps of it."""
    from streams.operate.what_if_words import headline, rows  # noqa: PLC0415 - brings the router along

    with _failing(proposal, "report"):
        if html is not None:
            what_if.write_report(html, replay)
    numbers = "; ".join(f"{name} {was} -> {now}" for name, was, now, _ in rows(replay))
    found = f"{headline(replay)} {numbers}."
    if not quiet:
        out.print(line(f"Proposal {proposal.id}:"))
        for one in proposal.steps:
            out.print(line(f"  {one.step}: {one.found}"))
        if html is not None:
            out.print(line(f"  The whole report: {html}"))
    proposal.took("report", "done", found)


def _activate(settings: Settings, proposal: _Proposal, wait_s: float, *, yes: bool, quiet: bool) -> Submitted:
    from streams.operate.orders import check, submit  # noqa: PLC0415 - brings the Kafka client along

    _ask(proposal, "activate", "Activate this on every partition?", yes=yes)
    event: FleetControl = proposal.activation()
    with _failing(proposal, "activate"), busy("Waiting for the router", quiet=quiet):
        # Once more: slots and tasks may have come since the first step.
        asyncio.run(check(settings, event))
        return submit(settings, event, wait_s=wait_s)


def _ask(proposal: _Proposal, step: ProposalStep, question: str, *, yes: bool) -> None:
    if yes:
        return
    try:
        confirm(question, unasked=_UNASKED, refused="Nothing was activated.")
    except typer.Exit:
        proposal.took(step, "refused", question)
        raise


@contextmanager
def _failing(proposal: _Proposal, step: ProposalStep) -> Iterator[None]:
    """Record that a step failed, with its sentence, where what is inside raises one."""
    try:
        yield
    except SlotwiseError as error:
        proposal.took(step, "failed", str(error))
        raise
