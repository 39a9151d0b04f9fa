"""The form of `slotwise replay` that asks what a recorded window would have come to under other rules."""

from __future__ import annotations

import asyncio
import gzip
import os
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import msgspec
import typer
from msgspec import Struct

from schemas.vocabulary import LAST_MS
from streams.clock import SystemClock
from streams.commands.console import busy, out, print_json
from streams.commands.partitions import chosen
from streams.settings import Settings, from_environment

if TYPE_CHECKING:
    from streams.access.rights import Part
    from streams.core.policy.rulebook import Rulebook
    from streams.replay.event_lines import Events
    from streams.replay.recording import Recording
    from streams.replay.what_if import Question, WhatIf
    from streams.replay.work_model import Times


class Asked(Struct, frozen=True, kw_only=True):
    """The options of a replay without --verify."""

    since: str | None
    until: str | None
    partitions: Sequence[int]
    recording: str | None
    sample: int | None
    fleet: str | None
    times: str
    starved_after_s: float
    html: Path | None
    as_json: bool
    #: Files of bare events.
    events: Sequence[str] = ()
    #: Who has the replay recorded as a step towards these rules; None: it is not recorded.
    recorded_by: str | None = None


def answer(settings: Settings, asked: Asked) -> None:
    """Replay the window under the settings' policy and catalogue, and show what it comes to."""
    from streams.commands import what_if_text  # noqa: PLC0415 - brings the router along
    from streams.topics import check_topics  # noqa: PLC0415

    if asked.recorded_by is not None:
        # Before the work: who may not record it learns that first.
        check_topics(settings, "operator")
    found = replayed(settings, asked)
    if asked.recorded_by is not None:
        _record(settings, asked, asked.recorded_by, found)
    if asked.html is not None:
        write_report(asked.html, found)
    if asked.as_json:
        print_json(found)
    else:
        out.print(what_if_text.render(found))


def replayed(settings: Settings, asked: Asked) -> WhatIf:
    """Replay the window under the settings' policy and catalogue.

    Raises:
        SlotwiseError: it cannot be; the message says why.
    """
    from streams.replay.what_if import Question, what_if  # noqa: PLC0415 - brings the router along, as what follows
    from streams.shipped import file_rulebook  # noqa: PLC0415

    times = times_of(asked)
    rulebook = file_rulebook(settings)
    fleet = fleet_of(asked.fleet, rulebook)
    question = Question(rulebook=rulebook, fleet=fleet, times=times, starved_after_s=asked.starved_after_s)
    if asked.events:
        return _of_events(settings, asked, question)
    with busy("Reading what was recorded: steps", quiet=asked.as_json) as progress:
        recordings = recordings_of(settings, rulebook, asked, progress)
    with busy("Replaying: partitions done", quiet=asked.as_json) as progress:
        return what_if(recordings, question, progress)


def events_of(asked: Asked) -> Events:
    """Read the files of events that the options name."""
    from streams.replay.event_lines import read_events  # noqa: PLC0415 - brings the router along

    if asked.recording is not None or asked.sample is not None or asked.partitions:
        raise typer.BadParameter("--recording, --sample and --partition are of other work.", param_hint="--events")
    with ExitStack() as stack:
        try:
            return read_events({file: stack.enter_context(_opened(file)) for file in dict.fromkeys(asked.events)})
        except (OSError, EOFError, zlib.error) as error:
            named = getattr(error, "filename", None) or ", ".join(asked.events)
            why = getattr(error, "strerror", None) or str(error)
            raise typer.BadParameter(f"{named} cannot be read: {why}.", param_hint="--events") from None


def _opened(file: str) -> IO[bytes]:
    """Open a file of lines, plain or gzip."""
    return cast("IO[bytes]", gzip.open(file)) if file.endswith(".gz") else Path(file).open("rb")


def _of_events(settings: Settings, asked: Asked, question: Question) -> WhatIf:
    """Let the configured rules decide about files of events, and replay that under the settings' rules."""
    from streams.replay.played import basis_of, recording_of  # noqa: PLC0415 - brings the router along
    from streams.replay.what_if import what_if  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415

    if question.times != "fitted":
        raise typer.BadParameter("events have no recorded times of choices.", param_hint="--times")
    events = events_of(asked)
    stated = from_environment(os.environ)
    named = {name: stated.get(name, "") for name in ("policy", "catalog")}
    configured = file_rulebook(msgspec.structs.replace(settings, **named))
    from_ms, to_ms = _window(asked)
    with busy("Deciding about events", quiet=asked.as_json):
        recording = recording_of(events, configured, question.fleet, from_ms=from_ms, to_ms=to_ms)
    with busy("Replaying: partitions done", quiet=asked.as_json) as progress:
        return what_if([recording], question, progress, basis=basis_of(events, configured, question.rulebook))


def _record(settings: Settings, asked: Asked, by: str, found: WhatIf) -> None:
    """Record the replay as a step towards these rules, as a proposal records its own."""
    from streams.commands.proposal_step import record_step  # noqa: PLC0415
    from streams.operate.what_if_words import changed, headline  # noqa: PLC0415
    from streams.shipped import file_rulebook  # noqa: PLC0415

    named = ", ".join([*asked.events, *([] if asked.recording is None else [asked.recording])])
    source = f" Of {named}." if named else ""
    says = f"{headline(found)}{source} {changed(found)}"
    rulebook = file_rulebook(settings)
    record_step(settings, rulebook, str(uuid.uuid4()), by=by, step="replay", outcome="done", found=says)


def times_of(asked: Asked) -> Times:
    """Return how long work takes."""
    if asked.times not in ("fitted", "recorded"):
        raise typer.BadParameter("they are fitted or recorded.", param_hint="--times")
    return "fitted" if asked.times == "fitted" else "recorded"


def write_report(path: Path, found: WhatIf) -> None:
    """Write the answer as an HTML file with its pictures."""
    from streams.web.pages.replay_report import replay_report  # noqa: PLC0415

    try:
        path.write_text(replay_report(found), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.", param_hint="--html") from None


def recordings_of(
    settings: Settings,
    rulebook: Rulebook,
    asked: Asked,
    progress: Callable[[int], None],
    *,
    part: Part = "reader",
) -> list[Recording]:
    """Return the window that the options name; of the topics it is read with the rights of `part`."""
    from streams.operate.recordings import recordings  # noqa: PLC0415 - brings the broker's client along
    from streams.topics import check_topics  # noqa: PLC0415

    if asked.sample is not None and asked.recording is not None:
        raise typer.BadParameter("name a recording or take the sample, not both.", param_hint="--sample")
    if asked.sample is not None:
        return [_sample(settings, asked.sample)]
    from_ms, to_ms = _window(asked)
    partitions = chosen(settings, asked.recording, asked.partitions)
    if asked.recording is None:
        check_topics(settings, part)
    return asyncio.run(
        recordings(
            settings,
            rulebook,
            partitions,
            recording=asked.recording,
            from_ms=from_ms,
            to_ms=to_ms,
            progress=progress,
        )
    )


def _sample(settings: Settings, count: int) -> Recording:
    """Return what the bundled sample leaves when the shipped rules play it."""
    from streams.core.policy.rulebook import load_rulebook  # noqa: PLC0415
    from streams.replay.recording import Recording  # noqa: PLC0415
    from streams.replay.sample_journal import sample_journal  # noqa: PLC0415
    from streams.sample.play import engines  # noqa: PLC0415
    from streams.sample.work import tasks  # noqa: PLC0415
    from streams.shipped import shipped  # noqa: PLC0415

    rulebook = load_rulebook(shipped("catalog.toml"), shipped("policy.toml"))
    recording = Recording(0, rulebook)
    for step in sample_journal(rulebook, list(engines(settings)), tasks("sample", count)):
        recording.add(step)
    return recording


def _window(asked: Asked) -> tuple[int, int]:
    """Return the first and the last millisecond."""
    from streams.operate.spans import end_of  # noqa: PLC0415

    now_ms = SystemClock().now_ms()
    ends = []
    for text, name, default in ((asked.since, "--from", 0), (asked.until, "--to", LAST_MS)):
        seq, at_ms = end_of(text, now_ms)
        if seq is not None:
            raise typer.BadParameter(
                "without --verify it is a time, such as 24h or 2026-11-21T15:00:00Z.", param_hint=name
            )
        ends.append(default if at_ms is None else at_ms)
    return ends[0], ends[1]


def fleet_of(text: str | None, rulebook: Rulebook) -> dict[str, int] | None:
    """Read `opus=2,haiku=6`, or a TOML file: one fleet of the catalogue's models."""
    if text is None:
        return None
    from streams.simulate.fleet_words import fleets  # noqa: PLC0415

    found = fleets(text)
    if len(found) > 1:
        raise typer.BadParameter("it means several fleets: name one count for each model.", param_hint="--fleet")
    if unknown := sorted(found[0].keys() - rulebook.models.keys()):
        raise typer.BadParameter(f"the catalogue has no {', '.join(unknown)}.", param_hint="--fleet")
    return found[0]
