"""`/ui/flow`: from the topics through the routers to outputs and audit, as a picture, by reader and by partition."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from markupsafe import Markup
from msgspec.structs import asdict

from schemas.vocabulary import DECISION_AUDIT, INPUT_TOPICS, OUTPUT_TOPICS
from streams.topics import names
from streams.views.flow import Flow, behind, flow, moves, stands
from streams.views.lag import BASES, LagReport, Progress, Reader, ReaderLag, drained_in
from streams.views.units import many
from streams.web.guard import PREFIX
from streams.web.lag_probe import lag_probe
from streams.web.pages.charts import Arrow, Station, picture
from streams.web.pages.now import dead_letters, workers
from streams.web.pages.page import Id, Page, PageOf, seen_by
from streams.web.pages.tables import Column, Row, Table
from streams.web.state import Web

router = APIRouter(prefix=PREFIX)

#: Whether a worker has a partition, in words.
_SERVED: Final = {True: "has one", False: "has none", None: "not known"}
#: Where each reader of the journal stands in the picture, from the top.
_ROWS: Final[dict[Reader, float]] = {"tables": 0, "publisher": 1.25, "sink": 3.75, "lines": 5}
#: Sinks of lines in the picture; the table has all.
_LINES_MAX: Final = 3
#: Columns of each table that say how far a reader is.
_PROGRESS: Final = (
    ("records", "behind", "number"),
    ("seconds", "behind, time", "span"),
    ("age_s", "oldest unread", "span"),
    ("in_per_s", "come, /s", "number"),
    ("out_per_s", "read, /s", "number"),
    ("drained_in", "all read in", "text"),
    ("expired", "expired unread", "number"),
)


@router.get("/flow", **seen_by("reader", "operator"))
async def show(
    page: PageOf,
    group: Id = None,
    topic: Id = None,
    partition: Annotated[int | None, Query(ge=0, lt=4096)] = None,
) -> Response:
    """The flow through all partitions; with a group and a topic, or a partition, how far the readers are in each."""
    web = page.web
    lag, dead = await _lag(web), await dead_letters(web)
    found = flow(
        dict(web.following.partitions), web.following.pulse.view(page.now_ms), parts=await workers(web), lag=lag
    )
    new = 0 if dead is None else dead.new(page.now_ms).count
    return page.show(
        "flow.html",
        title="Flow",
        tables=(
            _readers(page, lag),
            _positions(page, lag, group, topic, partition),
            _partitions(page, found, partition),
        ),
        says=found.says,
        picture=_picture(page, found, lag, new),
        lag=lag,
        chosen=[one for one in (group, topic, None if partition is None else f"partition {partition}") if one],
        partition=partition,
        new=new,
    )


async def _lag(web: Web) -> LagReport | None:
    """Return how far each reader is; None: not known now."""
    if web.following.trouble is not None:  # the positions of the workers are those of the state
        return None
    return await lag_probe(web).latest()


def _picture(page: Page, found: Flow, lag: LagReport | None, new: int) -> Markup:
    known, trouble = names(page.web.settings), page.web.following.trouble
    readers = lag.readers if lag is not None else ()
    steps = next((one for one in readers if one.topic == known.journal), None)
    stations = [
        *(Station(topic, "", 0, place * 1.5) for place, topic in enumerate(INPUT_TOPICS)),
        Station("router", many(len(found.partitions), "partition"), 1, 1.5),
        Station(DECISION_AUDIT, f"{sum(one.steps for one in found.partitions):,} steps", 2, 1.5),
        Station("these pages", "not up to date" if trouble else "up to date", 3, 2.5, "look" if trouble else ""),
        *(Station(topic, "", 4, place) for place, topic in enumerate(OUTPUT_TOPICS)),
        Station("audit", "in Postgres", 4, len(OUTPUT_TOPICS)),
        Station("dead letters", f"{new:,} new", 1, 3.5, "act" if new else "", f"{PREFIX}/dead-letters?state=new"),
    ]
    arrows = [
        Arrow("router", DECISION_AUDIT, "" if steps is None or steps.in_per_s is None else f"{steps.in_per_s:.1f}/s"),
        Arrow(DECISION_AUDIT, "these pages"),
        *(Arrow("publisher", topic) for topic in OUTPUT_TOPICS),
        Arrow("sink", "audit"),
    ]
    for topic, on_it in zip(INPUT_TOPICS, known.inputs, strict=True):
        read = next((one for one in readers if one.topic == on_it), None)
        arrows.append(_arrow(page, topic, "router", read))
    for name, row in _ROWS.items():
        of = [one for one in readers if one.reader == name]
        if not of and name != "lines":
            stations.append(Station(name, "not known", 3, row, "look"))
            arrows.append(_arrow(page, DECISION_AUDIT, name, None))
        for n, one in enumerate(of[:_LINES_MAX]):
            called = name if name != "lines" else one.group.removeprefix(known.lines_groups)
            says = stands(one)
            stations.append(Station(called, says, 3, row + n, "look" if says == "does not catch up" else ""))
            arrows.append(_arrow(page, DECISION_AUDIT, called, one))
    return picture(
        stations, arrows, label="The flow of records: on each arrow what is read a second, and what is not read"
    )


def _arrow(page: Page, start: str, end: str, one: ReaderLag | None) -> Arrow:
    """Return the arrow of a reader; None: how far it is, is not known."""
    if one is None:
        return Arrow(start, end, "", "not known")
    return Arrow(start, end, moves(one), behind(one), _leads(page, one.group, one.topic))


def _leads(page: Page, group: str, topic: str) -> str:
    return page.link(group=group, topic=topic, partition=None)


def _readers(page: Page, lag: LagReport | None) -> Table:
    found, unknown = (lag.readers, lag.unknown) if lag is not None else ((), ())
    blank: dict[str, Any] = {name: None for name, _, _ in _PROGRESS}
    return Table(
        name="readers",
        title="Readers of the topics",
        columns=(
            Column("reader", "reader", "id"),
            Column("topic", "topic", "id"),
            *_progress(lambda row: _leads(page, row["group"], row["topic"])),
            Column("basis", "by"),
            Column("group", "group", "id"),
        ),
        rows=[
            *({**_fields(one), "reader": one.reader, "topic": one.topic, **_where(one)} for one in found),
            *(
                {**blank, "drained_in": one.trouble, "reader": one.reader, "topic": one.topic, **_where(one)}
                for one in unknown
            ),
        ],
        empty="How far the readers are is not known yet. On the command line:",
        command="slotwise lag",
    )


def _positions(page: Page, lag: LagReport | None, group: str | None, topic: str | None, partition: int | None) -> Table:
    asked = group is not None or topic is not None or partition is not None
    return Table(
        name="positions",
        title="Readers, partition by partition",
        columns=(
            Column("partition", "partition", "number", href=lambda row: _partition(page, row)),
            Column("reader", "reader", "id"),
            Column("topic", "topic", "id"),
            *_progress(lambda row: _partition(page, row)),
            Column("position", "next offset", "number", href=lambda row: _partition(page, row)),
            Column("end", "end", "number", href=lambda row: _partition(page, row)),
        ),
        rows=[
            {**_fields(part), "reader": one.reader, "topic": one.topic, "partition": part.partition,
             "position": part.position, "end": part.end}
            for one in (lag.readers if lag is not None and asked else ())
            if group in (None, one.group) and topic in (None, one.topic)
            for part in one.partitions
            if partition in (None, part.partition)
        ],
        empty="No reader is of that group, topic and partition.",
    )  # fmt: skip


def _progress(href: Any) -> tuple[Column, ...]:
    return tuple(Column(name, title, kind, href=href) for name, title, kind in _PROGRESS)  # type: ignore[arg-type]


def _fields(one: Progress) -> dict[str, Any]:
    return {name: drained_in(one) if name == "drained_in" else getattr(one, name) for name, _, _ in _PROGRESS}


def _where(one: Any) -> dict[str, str]:
    return {"basis": BASES[one.basis], "group": one.group}


def _partition(page: Page, row: Row) -> str:
    return page.link(partition=row["partition"], group=None, topic=None)


def _partitions(page: Page, found: Flow, partition: int | None) -> Table:
    def of(row: Row) -> str:
        return _partition(page, row)

    return Table(
        name="partitions",
        title="Partitions",
        columns=(
            Column("partition", "partition", "number", href=of),
            Column("served", "worker", "word"),
            Column("steps", "steps", "number", href=of),
            Column("last_input", "last input", "time"),
            Column("tasks", "open tasks", "number", href=of),
            Column("slots", "slots", "number", href=of),
        ),
        rows=[
            {**asdict(one), "served": _SERVED[one.served]}
            for one in found.partitions
            if partition in (None, one.partition)
        ],
        empty="No partition was read yet.",
        command="slotwise topics check",
    )
