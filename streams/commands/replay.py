"""`slotwise replay`: makes recorded decisions again, or says what they would have come to under other rules."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.clock import SystemClock
from streams.commands import replay_text, replay_topic, what_if
from streams.commands.console import out, print_json
from streams.commands.control import By, login
from streams.commands.options import Json, page_file, takes
from streams.commands.partitions import Partitions, chosen
from streams.errors import FAILED
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.commands.replay_processes import Done
    from streams.operate.verifying import Work
    from streams.replay.report import VerifyReport

app = typer.Typer()


@app.command("replay", epilog="Example: slotwise replay --policy new.toml --from 24h, or slotwise replay --verify")
@takes(
    *("broker", "topic_prefix", "group", "partitions", "step_bytes_max", "catalog", "policy"),
    *("database", "database_connect_timeout_s", "database_statement_timeout_s", "journal"),
    join=True,
)
def replay(
    settings: Settings,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make every step again from its inputs and compare it, byte by byte.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="SEQ|SPAN|ISO", help="First step: its number, or a time: 24h, 2026-11-21T15:00:00Z."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="SEQ|SPAN|ISO", help="Last step, likewise. Default: the journal's end."),
    ] = None,
    partition: Partitions = None,
    recording: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Instead of the topics: a directory of `slotwise journal export`, or a file of `slotwise sink --to`, "
            "whose inputs are on the topics.",
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Instead of what was recorded: bare events, as `slotwise send` takes them; several times for several.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Partitions at the same time. Default: as many as there are processors.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep there how far it got; the next run with it goes on from there."),
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="With --verify: also compare every step with its rows in Postgres.")
    ] = False,
    send: Annotated[
        bool, typer.Option("--send", help="Send the window to the topic routing.replay, for who listens there.")
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.001, max=1e9, help="With --send: recorded seconds that are sent in a second.")
    ] = 1.0,
    listen: Annotated[
        bool, typer.Option("--listen", help="Decide about what comes to routing.replay, until its end is sent.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=50, max=20_000, help="Replay so many tasks of the bundled sample, to see it.")
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option(metavar="MODEL=N,...", help="So many slots of each model in place of the recorded ones."),
    ] = None,
    times: Annotated[
        str, typer.Option(help="Work takes `fitted` times on another model, or those that were `recorded`.")
    ] = "fitted",
    starved_after_s: Annotated[
        float, typer.Option("--starved-after", metavar="SECONDS", min=0.0, help="A longer wait counts as starved.")
    ] = 3_600.0,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the answer with its pictures as one HTML file, too.", callback=page_file
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Record it as a replay of these rules, which `slotwise policy activate` looks for."
        ),
    ] = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Go on with what was recorded under the policy and catalogue that are named, or verify the record.

    Shown are money, EV served, waits, tiers and starvation on both sides, and the tasks whose choice changed with the
    rule that changed it. docs/what-if.md says what that takes for granted. With --send a window goes to the topic
    routing.replay, at a chosen speed, and with --listen another process decides about what comes there.

    With --verify every step is made again by the same code as the router's and compared, under the configured policy
    and catalogue and those that were activated. Exit code 1: a step differs, and both sides are shown, or verifying was
    stopped. Only --send and --listen write to topics, which are their own, and --record one operator's event.
    """
    if not verify:
        if (jobs, resume, stored) != (None, None, False):
            raise typer.BadParameter("--jobs, --resume and --stored are of --verify.")
        asked = what_if.Asked(
            since=since,
            until=until,
            partitions=tuple(partition or ()),
            recording=recording,
            sample=sample,
            fleet=fleet,
            times=times,
            starved_after_s=starved_after_s,
            html=html,
            as_json=as_json,
            events=tuple(events or ()),
            recorded_by=(by or login()) if record else None,
        )
        if listen and events:
            raise typer.BadParameter("who listens is sent them by --send --events.", param_hint="--events")
        if record and (send or listen or sample is not None):
            raise typer.BadParameter("it is of a replay of your own work, and of no other form.", param_hint="--record")
        if send and listen:
            raise typer.BadParameter("--send and --listen are two commands: one sends, the other decides.")
        if ((send or listen) and html is not None) or (send and fleet is not None):
            raise typer.BadParameter("--html is of a replay that is not sent, and --fleet of who decides: --listen.")
        if send:
            replay_topic.send(settings, asked, speed=speed)
        elif listen:
            replay_topic.listen(settings, asked)
        else:
            what_if.answer(settings, asked)
        return
    if (sample, fleet, html) != (None, None, None) or send or listen or record or events:
        raise typer.BadParameter(
            "--sample, --events, --fleet, --html, --send, --listen and --record are of a replay without --verify."
        )
    from streams.operate.spans import span_of  # noqa: PLC0415 - brings the clients along, as what follows
    from streams.operate.verifying import Work  # noqa: PLC0415

    span = span_of(since, until, SystemClock().now_ms())
    work = Work(settings=settings, span=span, recording=recording, resume=resume, compared=stored)
    report = _verified(work, partition or [], jobs, quiet=as_json)
    if as_json:
        print_json(report)
    else:
        out.print(replay_text.render(report))
    if not report.same or any(one.stopped for one in report.partitions):
        raise typer.Exit(FAILED)


def _verified(work: Work, wanted: list[int], jobs: int | None, *, quiet: bool) -> VerifyReport:
    from streams.commands.replay_processes import verify_all  # noqa: PLC0415
    from streams.commands.replay_progress import verifying  # noqa: PLC0415
    from streams.operate.stored_steps import comparing  # noqa: PLC0415
    from streams.operate.verifying import extents, is_whole, report_of  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    partitions = chosen(work.settings, work.recording, wanted)
    rulebook = file_rulebook(work.settings)
    if work.recording is None or not is_whole(work.recording):
        check_topics(work.settings)
    begun_s = time.monotonic()
    with ExitStack() as stack:
        comparison = stack.enter_context(comparing(work.settings)) if work.compared else None
        show = stack.enter_context(verifying(asyncio.run(extents(work, partitions)), quiet=quiet))

        def report(done: Done) -> None:
            if comparison is not None:
                comparison.take(done.partition, done.same)
            show(done)

        found = verify_all(work, partitions, jobs or os.cpu_count() or 1, report)
    stored = None if comparison is None else comparison.found
    return report_of(found, rulebook, seconds=time.monotonic() - begun_s, stored=stored)
