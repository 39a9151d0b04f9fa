"""Commands that run until a signal stops them: everything on one machine, a worker, the sink, the sample."""

from __future__ import annotations

import asyncio
import functools
import re
import signal
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from schemas.vocabulary import ID_PATTERN
from streams.commands.console import err, line, out, print_json
from streams.commands.options import EVERYTHING, Json, takes
from streams.ending import STOP_S_MAX, end_after
from streams.errors import FAILED, UNREACHABLE, SlotwiseError
from streams.host import is_free
from streams.settings import KAFKA_GROUP, Settings

app = typer.Typer()


#: Ports after the default one that a further worker of a machine tries.
NEXT_PORTS: Final = 100


class PortError(SlotwiseError):
    """Another program listens on a port that is needed; the message names it."""

    exit_code = UNREACHABLE


class BrokerChoice(StrEnum):
    """Which broker `up` starts."""

    embedded = "embedded"
    kafka = "kafka"


@app.command(
    epilog="Example: slotwise up --sample --until-idle --json",
)
@takes(
    *(
        name
        for name in EVERYTHING
        if name not in ("broker", "database", "instance_id", "web_host", "http_host", "dry_run")
        and not name.startswith(KAFKA_GROUP)
    )
)
def up(
    settings: Settings,
    *,
    broker: Annotated[
        BrokerChoice,
        typer.Option(help="embedded: in memory, at once. kafka: Apache Kafka, durable; needs Java and, once, Maven."),
    ] = BrokerChoice.embedded,
    sample: Annotated[bool, typer.Option("--sample", help="Feed the bundled sample of real agent work.")] = False,
    tasks: Annotated[int, typer.Option(min=1, max=1_000_000, help="Tasks of the sample.")] = 2_000,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="Seconds of the sample in one second.")] = 100.0,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when all work is done; exit code 1 if the numbers disagree.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=1, help="With --until-idle: longest run.")] = 300.0,
    open_pages: Annotated[
        bool, typer.Option("--open", help="Open the web pages in a browser; on the board the key o does it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start broker, database, worker and sink on this machine, with a board, until Ctrl-C.

    While it runs, up.json in the data directory says where each part is reached, and the other commands
    (send, explain, topics, tables) find it there by themselves. It ends when what was sent is decided and the audit
    has every step of the journal; else it says what is missing and what was never decided, and the exit code is 1.
    """
    from streams.local.run import run  # noqa: PLC0415 - starts slowly
    from streams.local.up import Options  # noqa: PLC0415

    if open_pages and as_json:
        raise typer.BadParameter("--open is for people, --json for programs: leave one of them out.")
    options = Options(
        broker=broker.value,
        sample=sample,
        tasks=tasks,
        speed=speed,
        until_idle=until_idle,
        idle_s_max=timeout_s,
        open_pages=open_pages,
        web_port=settings.web_port if settings.web_port != Settings().web_port else None,
        http_port=settings.http_port if settings.http_port != Settings().http_port else None,
    )
    # A console of its own: the board breaks lines, the others do not.
    screen = Console(stderr=as_json, highlight=False)
    result = run(settings, options, screen=screen, errors=err)
    if as_json:
        print_json(result)
    elif result is not None:
        _print_result(result)
    if result is not None and not as_json:
        for sentence in result.remains.sentences():
            if sentence not in result.disagreements:
                err.print(line(sentence))
    if (until_idle and (result is None or not result.agree)) or (result is not None and result.remains.lost):
        raise typer.Exit(FAILED)


@app.command(epilog="Example: SLOTWISE_BROKER=kafka-1:9092 slotwise worker")
@takes(*EVERYTHING)
def worker(settings: Settings, *, as_json: Json = False) -> None:
    """Route tasks: take partitions of the input topics and decide, until SIGTERM. Start as many as you like.

    With --dry-run it decides and records, and routes nothing: beside another dispatcher, before the flip
    (docs/what-if.md).
    """
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along
    from streams.worker import run  # noqa: PLC0415 - brings Faust along

    settings = _with_port(settings)
    check_topics(settings, "worker")
    raise typer.Exit(run(msgspec.structs.replace(settings, log_json=settings.log_json or as_json)))


@app.command(epilog="Example: slotwise sink --database postgresql://my_sink@db/slotwise, or slotwise sink --to a.jsonl")
@takes(*EVERYTHING, join=True)
def sink(
    settings: Settings,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Write JSON lines to this file, from where it ends, and nothing to Postgres; - is standard output.",
            show_default=False,
        ),
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Go on behind missing or damaged steps; the gap stays visible."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the journal to Postgres, or to a file, until SIGTERM. A second one takes over when the first ends."""
    from streams.database.connection import Timeouts, connect  # noqa: PLC0415 - brings the database driver along
    from streams.sinks.runner import run  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    # Later outages are waited out; one at the start is more likely a wrong address.
    if to is None:
        connect(settings.database, Timeouts.of(settings)).close()
    check_topics(settings, "sink")
    settings = msgspec.structs.replace(settings, log_json=settings.log_json or as_json)
    where = f"The broker at {settings.broker}" + ("" if to is not None else " or the database")
    late = (
        f"{where} does not answer, and the sink ends without it: nothing is lost. What is not written is read again at "
        "the next start."
    )
    asyncio.run(until_signal(lambda stop: run(settings, stop, to=to, accept_loss=accept_loss), late=late))


@app.command(epilog="Example: SLOTWISE_BROKER=kafka-1:9092 SLOTWISE_HTTP_TOKENS=tokens.txt slotwise web")
@takes(*EVERYTHING, join=True)
def web(settings: Settings, *, as_json: Json = False) -> None:
    """Serve the HTTP API until SIGTERM: tasks, slots, reads, and orders of operators. Start as many as you like.

    Without a file of tokens only this machine is served, and there are no orders. GET /openapi.json describes it all.
    """
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along
    from streams.web.run import run, tokens_of  # noqa: PLC0415 - brings FastAPI along

    tokens = tokens_of(settings)
    _require_http_port(settings)
    check_topics(settings, "web")
    settings = msgspec.structs.replace(settings, log_json=settings.log_json or as_json)
    late = f"The broker at {settings.broker} does not answer, and the HTTP API ends without it."

    def ready(address: str) -> None:
        err.print(line(f"The HTTP API is served at {address}; Ctrl-C ends it."))

    asyncio.run(until_signal(lambda stop: run(settings, tokens, stop, ready), late=late))


@app.command(epilog="Example: slotwise token producer --name ci >> tokens.txt")
def token(
    role: Annotated[list[str], typer.Argument(help="producer, dispatcher, reader or operator; several of them.")],
    *,
    name: Annotated[str, typer.Option(help="Who it is for; orders say so.")] = "token",
    as_json: Json = False,
) -> None:
    """Make a token of the HTTP API: its line for the file of tokens, and on standard error the token itself."""
    from streams.web.access import new_token, roles_of  # noqa: PLC0415 - brings FastAPI along

    text, entry = new_token(roles_of(role, name), name)
    if as_json:
        print_json({"token": text, "line": entry})
        return
    err.print(line(f"The token, shown only now: {text}"))
    typer.echo(entry)


@app.command(epilog="Example: slotwise sample --tasks 200 --speed 30")
@takes("broker", "topic_prefix", "partitions", "catalog", join=True)
def sample(
    settings: Settings,
    *,
    tasks: Annotated[int, typer.Option(min=1, max=1_000_000, help="Tasks to send.")] = 2_000,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="Seconds of the sample in one second.")] = 100.0,
    run: Annotated[str, typer.Option(help="Goes into the task ids; the same run again is a repetition.")] = "sample",
    pool: Annotated[str, typer.Option(help="Pool of its tasks and slots; at the end the slots leave it.")] = "sample",
    status: Annotated[Path | None, typer.Option(help="Write the progress to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Send the bundled sample to a broker and play the fleet that works it off, until Ctrl-C."""
    from streams.sample.play import play  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    if re.match(ID_PATTERN, pool) is None:
        raise typer.BadParameter("a pool has 1 to 128 letters, digits, `.`, `_`, `:` and `-`.", param_hint="--pool")
    check_topics(settings, "producer", "dispatcher")
    if not as_json:
        err.print(line(f"Sending {tasks} tasks of the sample to the pool {pool} and doing them; Ctrl-C ends it."))
    playing = functools.partial(play, settings, run=run, count=tasks, speed=speed, pool=pool, status=status)
    progress = asyncio.run(until_signal(lambda stop: playing(stop=stop)))
    if as_json:
        print_json(progress)
    else:
        out.print(f"{progress.sent} tasks sent, {progress.succeeded} done, {progress.failed} failed attempts.")


def _print_result(result: Any) -> None:
    out.print(
        f"{result.decisions_total} decisions in {result.steps} steps, {result.audit_rows} audit rows, "
        f"{result.dead_letters['journal']} dead letters, {result.rates.decisions_per_s}/s, "
        f"${result.money.saved_vs_premium_usd:.2f} saved against always-premium."
    )
    for disagreement in result.disagreements:
        out.print(line(disagreement))


async def until_signal(run: Callable[[asyncio.Event], Coroutine[Any, Any, Any]], *, late: str | None = None) -> Any:
    """Run something that ends in good order when its event is set, and set that on Ctrl-C and SIGTERM.

    Where its end waits for something that does not answer, the process ends without it, with the sentence `late`.
    """
    stop = asyncio.Event()

    def ask() -> None:
        if late is not None and not stop.is_set():
            end_after(STOP_S_MAX, late)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return await run(stop)


def _with_port(settings: Settings) -> Settings:
    """Return the settings with a port that is free: of the default one the next that is."""
    try:
        if is_free(settings.web_port, settings.web_host):
            return settings
        why = "another program does"
        first = settings.web_port
        if first == Settings().web_port:
            ports = range(first + 1, first + 1 + NEXT_PORTS)
            found = next((port for port in ports if is_free(port, settings.web_host)), None)
            if found is not None:
                err.print(f"Port {first} is taken: the pages of this worker are on {found}.", highlight=False)
                return msgspec.structs.replace(settings, web_port=found)
            why = f"other programs do, up to {ports[-1]}"
    except OSError as error:
        why = str(error.strerror)
    raise PortError(
        f"The worker's pages cannot listen on {settings.web_host}:{settings.web_port} ({why}): end what listens there, "
        "or choose another port with SLOTWISE_WEB_PORT (0: any free one)."
    )


def _require_http_port(settings: Settings) -> None:
    try:
        if is_free(settings.http_port, settings.http_host):
            return
        why = "another program does"
    except OSError as error:
        why = str(error.strerror)
    raise PortError(
        f"The HTTP API cannot listen on {settings.http_host}:{settings.http_port} ({why}): end what listens there, "
        "or choose another port with SLOTWISE_HTTP_PORT (0: any free one)."
    )
