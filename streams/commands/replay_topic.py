"""The forms of `slotwise replay` about its topic: send a recorded window there, or listen and decide."""

from __future__ import annotations

import asyncio
import uuid

import typer

from streams.commands.console import busy, err, line, out, print_json
from streams.commands.what_if import Asked, events_of, fleet_of, recordings_of, times_of
from streams.settings import Settings


def send(settings: Settings, asked: Asked, *, speed: float) -> None:
    """Send a window to `routing.replay`."""
    from streams.operate import replay_topic  # noqa: PLC0415 - brings the broker's client along
    from streams.shipped import file_rulebook  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    run = uuid.uuid4().hex[:12]
    if asked.events:
        if (asked.since, asked.until) != (None, None):
            raise typer.BadParameter("files of events are sent whole, without --from and --to.", param_hint="--events")
        found = events_of(asked).occurrences
        check_topics(settings, "replay")
        windows = [replay_topic.Window(0, found, found[-1].at_ms)]
    else:
        with busy("Reading what was recorded: steps", quiet=asked.as_json) as progress:
            recorded = recordings_of(settings, file_rulebook(settings), asked, progress, part="replay")
        windows = [replay_topic.Window.of(one) for one in recorded]
    with busy("Sending: records", quiet=asked.as_json) as progress:
        count = asyncio.run(replay_topic.send(settings, windows, run=run, speed=speed, progress=progress))
    if asked.as_json:
        print_json({"run": run, "records": count})
    else:
        out.print(
            line(f"{count:,} records were sent to {settings.topic_prefix}routing.replay, and an end behind them.")
        )


def listen(settings: Settings, asked: Asked) -> None:
    """Decide about what comes to `routing.replay`, until an end was sent to every partition."""
    from streams.operate.replay_topic import Listener  # noqa: PLC0415 - brings the broker's client along
    from streams.operate.what_if_words import side_rows  # noqa: PLC0415
    from streams.replay.work_model import WorkModel  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415
    from streams.simulate.fleet_words import words  # noqa: PLC0415

    rulebook, times = file_rulebook(settings), times_of(asked)
    fleet = fleet_of(asked.fleet, rulebook)
    with busy("Reading how long work took: steps", quiet=asked.as_json) as progress:
        recorded = recordings_of(settings, rulebook, asked, progress, part="replay")
    work = WorkModel.of(recorded, rulebook, times)
    run, starved_after_s = uuid.uuid4().hex[:12], asked.starved_after_s
    listener = Listener(settings, rulebook, work, run=run, starved_after_s=starved_after_s, fleet=fleet)
    said = f"Listening to {settings.topic_prefix}routing.replay; Ctrl-C ends it without an answer."
    with busy("Deciding: records", quiet=asked.as_json) as progress:
        found = asyncio.run(listener.listen(ready=lambda: err.print(line(said)), progress=progress))
    if asked.as_json:
        print_json(found)
        return
    slots = "" if found.fleet is None else f" with {words(found.fleet)} in each pool"
    rules = f"policy {found.policy}, catalogue {found.catalog}"
    out.print(line(f"{found.records:,} records under {rules}{slots}; run {found.run}."))
    for name, value in side_rows(found.side):
        out.print(line(f"{name:<22}{value:>14}"))
    if found.refused:
        out.print(line(f"{found.refused:,} were refused, the first so: {found.first_refusal}"))
