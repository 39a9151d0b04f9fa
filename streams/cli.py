"""The command line: one function a command, its settings from the one table, its mistakes as one sentence.

Exit codes: 0 done; 1 it ran, and something is not as it should be; 2 a mistake in the command, a setting or a file;
3 something that is needed does not answer or cannot start. Heavy libraries are imported by the command that needs
them, so that `--help` is there at once.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from streams import up_file
from streams.settings import Settings, load, table

if TYPE_CHECKING:
    from streams.send import Kind

FAILED: Final = 1
MISTAKE: Final = 2
UNREACHABLE: Final = 3

#: What each of our errors means for whoever called us; by name, so that nothing is imported only to be compared with.
CODES: Final = {
    "SettingsError": MISTAKE,
    "RulebookError": MISTAKE,
    "UpError": MISTAKE,
    "NotInTimeError": FAILED,
    "TopicsError": MISTAKE,
    "MigrationError": FAILED,
    "DatabaseError": FAILED,
    "JournalError": FAILED,
    "EmbeddedError": UNREACHABLE,
    "SendError": UNREACHABLE,
    "PageError": UNREACHABLE,
    "PortError": UNREACHABLE,
    "KafkaError": UNREACHABLE,
    "OperationalError": UNREACHABLE,
}
#: Errors that say either "is wrong" or "does not answer", and what they were raised for in the second case.
ABOUT_SERVERS: Final = {"TopicsError", "DatabaseError"}
NO_ANSWER: Final = {"KafkaError", "OperationalError", "OSError"}

app = typer.Typer(name="slotwise", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
topics_app = typer.Typer(help="Create, list and check the topics of an installation.")
db_app = typer.Typer(help="Bring the audit database to the schema of this version.")
tables_app = typer.Typer(help="Show what the worker's tables hold.")
app.add_typer(topics_app, name="topics")
app.add_typer(db_app, name="db")
app.add_typer(tables_app, name="tables")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class PageError(Exception):
    """A page of the worker does not answer; the message says which."""


class PortError(Exception):
    """Another program listens where we would; the message says where."""


class BrokerChoice(StrEnum):
    """Which broker `up` starts."""

    embedded = "embedded"
    kafka = "kafka"


class EventKind(StrEnum):
    """What a line to send is."""

    task = "task"
    slot = "slot"
    control = "control"


class TableName(StrEnum):
    """The worker's tables."""

    utilisation = "utilisation"
    ev_percentiles = "ev_percentiles"


# Settings as options ------------------------------------------------------------------------------------------------

EVERYTHING: Final = tuple(row.name for row in table())


def takes(*names: str, join: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options for some settings, and call it with the loaded `Settings` as its first argument.

    With `join`, addresses that nobody stated are those of the `slotwise up` that runs on the data directory.
    """
    wanted = {*names, *(("data_dir",) if join else ())}
    rows = [row for row in table() if row.name in wanted]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            given = {row.name: arguments.pop(row.name) for row in rows}
            settings = load(os.environ, given)
            stated = {row.name for row in table() if row.env in os.environ or given.get(row.name) is not None}
            function(_joined(settings, stated) if join else settings, **arguments)

        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        options = [
            inspect.Parameter(
                row.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    bool | None if row.default in (True, False) and isinstance(row.default, bool) else str | None,
                    typer.Option(
                        help=f"{row.help}. Default: {row.default!r}." if row.default != "" else f"{row.help}.",
                        metavar=row.unit or None,
                        rich_help_panel="Settings (each also as SLOTWISE_<NAME>)",
                    ),
                ],
            )
            for row in rows
        ]
        parameters = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        command.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in (*parameters, *options)}
        del command.__wrapped__  # else its signature would count, not ours
        return command

    return decorate


def _joined(settings: Settings, stated: set[str]) -> Settings:
    running = up_file.read(Path(settings.data_dir))
    if running is None:
        return settings
    host, _, port = running.web.removeprefix("http://").rpartition(":")
    found = {"broker": running.broker, "database": running.database, "web_host": host, "web_port": int(port)}
    return msgspec.structs.replace(settings, **{name: value for name, value in found.items() if name not in stated})


# Commands -----------------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def slotwise(context: typer.Context) -> None:
    """Give each task of an LLM agent fleet to the slot where it is worth the most, and say why.

    Start with: slotwise up --sample
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    epilog="Example: slotwise up --sample --until-idle --json",
)
@takes(*(name for name in EVERYTHING if name not in ("broker", "database", "instance_id", "web_host")))
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
    as_json: Json = False,
) -> None:
    """Start broker, database, worker and sink on this machine, with a board, until Ctrl-C.

    While it runs, up.json in the data directory says where each part is reached, and the other commands
    (send, explain, topics, tables) find it there by themselves.
    """
    from streams.up import Options, run  # noqa: PLC0415 - starts slowly

    options = Options(
        broker=broker.value,
        sample=sample,
        tasks=tasks,
        speed=speed,
        until_idle=until_idle,
        idle_s_max=timeout_s,
        web_port=settings.web_port if settings.web_port != Settings().web_port else None,
    )
    # Not our usual consoles, which never break a line: a board has to fit.
    screen = Console(stderr=as_json, highlight=False)
    result = run(settings, options, screen=screen, errors=err)
    if as_json:
        _print_json(result)
    elif result is not None:
        _print_result(result)
    if until_idle and (result is None or not result.agree):
        raise typer.Exit(FAILED)


@app.command(epilog="Example: SLOTWISE_BROKER=kafka-1:9092 slotwise worker")
@takes(*EVERYTHING)
def worker(settings: Settings, *, as_json: Json = False) -> None:
    """Route tasks: take partitions of the input topics and decide, until SIGTERM. Start as many as you like."""
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along
    from streams.worker import run  # noqa: PLC0415 - brings Faust along

    _require_port(settings)
    check_topics(settings)
    raise typer.Exit(run(msgspec.structs.replace(settings, log_json=settings.log_json or as_json)))


@app.command(epilog="Example: slotwise sink --database postgresql://slotwise@db/slotwise")
@takes(*EVERYTHING)
def sink(settings: Settings, *, as_json: Json = False) -> None:
    """Write the journal to Postgres, until SIGTERM. A second one takes over when the first ends."""
    from streams.sinks.database import Timeouts, connect  # noqa: PLC0415 - brings the database driver along
    from streams.sinks.runner import run  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    # Later outages are waited out; one at the start is more likely a wrong address.
    connect(settings.database, Timeouts.of(settings)).close()
    check_topics(settings)
    run(msgspec.structs.replace(settings, log_json=settings.log_json or as_json))


@app.command(epilog="Example: slotwise sample --tasks 200 --speed 30")
@takes("broker", "topic_prefix", "partitions", "catalog", join=True)
def sample(
    settings: Settings,
    *,
    tasks: Annotated[int, typer.Option(min=1, max=1_000_000, help="Tasks to send.")] = 2_000,
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="Seconds of the sample in one second.")] = 100.0,
    run: Annotated[str, typer.Option(help="Goes into the task ids; the same run again is a repetition.")] = "sample",
    status: Annotated[Path | None, typer.Option(help="Write the progress to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Send the bundled sample to a broker and play the fleet that works it off, until Ctrl-C."""
    from streams.simulate.play import play  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings)
    playing = functools.partial(play, settings, run=run, count=tasks, speed=speed, status=status)
    progress = asyncio.run(_until_signal(lambda stop: playing(stop=stop)))
    if as_json:
        _print_json(progress)
    else:
        out.print(f"{progress.sent} tasks sent, {progress.succeeded} done, {progress.failed} failed attempts.")


@topics_app.command("create", epilog="Example: slotwise topics create --partitions 32 --replication 3")
@takes("broker", "topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_create(settings: Settings, *, as_json: Json = False) -> None:
    """Create the topics that are missing; those that are there are checked, not changed."""
    from streams.topics import create_topics  # noqa: PLC0415 - brings the Kafka client along

    created = create_topics(settings)
    if as_json:
        _print_json({"created": created})
    else:
        out.print("\n".join(created) if created else "All topics are there already.")


@topics_app.command("list", epilog="Example: slotwise topics list --json")
@takes("topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_list(settings: Settings, *, as_json: Json = False) -> None:
    """List the topics of this installation as they are to be created; for those who create topics otherwise."""
    from streams.topics import topics  # noqa: PLC0415 - brings the Kafka client along

    wanted = topics(settings)
    if as_json:
        _print_json(wanted)
        return
    grid = Table("topic", "partitions", "replication", "settings", box=None)
    for topic in wanted:
        configs = " ".join(f"{key}={value}" for key, value in topic.configs.items())
        grid.add_row(topic.name, str(topic.partitions), str(topic.replication), configs)
    out.print(grid)


@topics_app.command("check", epilog="Example: slotwise topics check --broker kafka-1:9092")
@takes("broker", "topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_check(settings: Settings, *, as_json: Json = False) -> None:
    """Check that all topics are there as slotwise needs them, as every start does."""
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along

    check_topics(settings)
    if as_json:
        _print_json({"ok": True})
    else:
        out.print("All topics are as slotwise needs them.")


@db_app.command("migrate", epilog="Example: slotwise db migrate --database postgresql://owner@db/slotwise")
@takes("database", join=True)
def db_migrate(settings: Settings, *, as_json: Json = False) -> None:
    """Create or update tables, views and roles of the audit, and its partitions for the days ahead."""
    from streams.sinks.migrations import migrate  # noqa: PLC0415 - brings the database driver along

    with _busy("Migrating the audit database", quiet=as_json):
        ran = migrate(settings.database)
    if as_json:
        _print_json({"migrated": ran})
    else:
        out.print("\n".join(ran) if ran else "The audit database is up to date.")


@app.command(epilog='Example: echo \'{"task_id":"t-1","pool":"main"}\' | slotwise send task --now -')
@takes("broker", "topic_prefix", "group", "partitions", "step_bytes_max", join=True)
def send(
    settings: Settings,
    *,
    kind: Annotated[EventKind, typer.Argument(help="What the lines are.", show_default=False)],
    file: Annotated[str, typer.Argument(help="File of JSON lines, one event each; - is standard input.")],
    now: Annotated[bool, typer.Option("--now", help="Fill in `at` with the present where a line has none.")] = False,
    as_json: Json = False,
) -> None:
    """Send events: keyed by pool, each line checked first as the router will check it.

    Lines that the router would refuse are not sent but told; the exit code is 1 then.
    """
    from streams.send import send as send_lines  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    if file != "-":
        Path(file).open("rb").close()  # before anything else: this is the likelier mistake
    check_topics(settings)
    what: Kind = kind.value
    with _busy(f"Sending {what}s", quiet=as_json) as progress:
        sent = send_lines(settings, what, _lines(file), stamp=now, progress=progress)
    if as_json:
        _print_json(sent)
    else:
        out.print(f"{sent.sent} of {sent.lines} lines sent to {sent.topic} ({sent.records} records).")
        for refusal in sent.refusals:
            err.print(f"line {refusal.line}: {refusal.reason}", markup=False)
        if sent.refused > len(sent.refusals):
            err.print(f"... and {sent.refused - len(sent.refusals)} more lines.")
    if sent.refused:
        raise typer.Exit(FAILED)


@app.command(epilog="Example: slotwise explain t-17")
@takes("database", "database_connect_timeout_s", "database_statement_timeout_s", join=True)
def explain(
    settings: Settings,
    *,
    task_id: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Its pool, where several have a task of that id.")] = None,
    mode: Annotated[str, typer.Option(help="live, shadow, replay or all.")] = "live",
    as_json: Json = False,
) -> None:
    """Tell why a task went where it went, or why it waits: every decision, and what each model's verdict was."""
    from streams.sinks.database import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.sinks.explain import explain as ask  # noqa: PLC0415
    from streams.sinks.explain import render  # noqa: PLC0415

    told = ask(
        settings.database, task_id, pool=pool, mode=None if mode == "all" else mode, timeouts=Timeouts.of(settings)
    )
    if as_json:
        _print_json(told)
    elif told:
        out.print(render(told))
    else:
        err.print(Text(f"No decision about {task_id} stands in the audit: it was never sent, or not decided yet."))
    if not told:
        raise typer.Exit(FAILED)


@tables_app.command("show", epilog="Example: slotwise tables show ev_percentiles")
@takes("web_host", "web_port", join=True)
def tables_show(
    settings: Settings,
    *,
    name: Annotated[TableName, typer.Argument(help="Which table.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a table of a running worker: the rows of the partitions that this worker has."""
    rows = _page(settings, f"/tables/{name.value}")
    if as_json:
        _print_json(rows)
        return
    listed = rows if isinstance(rows, list) else rows.get("rows", [rows])
    if not listed:
        out.print("The table is empty.")
        return
    grid = Table(*listed[0], box=None)
    for row in listed:
        grid.add_row(*(_cell(value) for value in row.values()))
    out.print(grid)


@app.command("settings", epilog="Example: slotwise settings --json")
@takes(*EVERYTHING)
def show_settings(
    settings: Settings,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as the README has it.")] = False,
    as_json: Json = False,
) -> None:
    """List every setting with its value here, its default and what it is for."""
    if as_json:
        _print_json(
            [
                {"name": row.name, "env": row.env, "value": getattr(settings, row.name), "default": row.default,
                 "unit": row.unit, "help": row.help}
                for row in table()
            ]
        )  # fmt: skip
        return
    if markdown:
        typer.echo("\n".join(markdown_table()))
        return
    grid = Table("variable", "value", "unit", "what it is for", box=None)
    for row in table():
        value = _without_password(str(getattr(settings, row.name)))
        style = "" if getattr(settings, row.name) == row.default else "bold"
        grid.add_row(row.env, Text(value, style=style), row.unit, row.help)
    out.print(grid)


@app.command(epilog="Example: slotwise version --json")
def version(*, as_json: Json = False) -> None:
    """Say which slotwise this is."""
    number = installed_version("slotwise")
    if as_json:
        _print_json({"slotwise": number, "python": sys.version.split()[0]})
    else:
        out.print(f"slotwise {number}")


def markdown_table() -> Iterator[str]:
    """Give the lines of the settings table as the README has it."""
    yield "| variable | default | unit | what it is for |"
    yield "|---|---|---|---|"
    for row in table():
        default = f"`{row.default}`" if row.default != "" else "(empty)"
        yield f"| `{row.env}` | {default} | {row.unit} | {row.help} |"


# What commands share ------------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_result(result: Any) -> None:
    out.print(
        f"{result.decisions_total} decisions in {result.steps} steps, {result.audit_rows} audit rows, "
        f"{result.dead_letters['journal']} dead letters, {result.rates.decisions_per_s}/s, "
        f"${result.money.saved_vs_premium_usd:.2f} saved against always-premium."
    )
    for disagreement in result.disagreements:
        out.print(disagreement, markup=False)


def _busy(what: str, *, quiet: bool) -> Any:
    """Show that long work goes on, on a terminal; gives what to call with the count so far."""
    return _Busy(what, quiet=quiet)


class _Busy:
    def __init__(self, what: str, *, quiet: bool) -> None:
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description} {task.completed:.0f}"), console=err, transient=True,
            disable=quiet or not err.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


async def _until_signal(run: Callable[[asyncio.Event], Coroutine[Any, Any, Any]]) -> Any:
    """Run something that ends in good order when its event is set, and set that on Ctrl-C and SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(stop)


def _lines(file: str) -> Iterator[bytes]:
    if file == "-":
        yield from sys.stdin.buffer
        return
    with Path(file).open("rb") as lines:
        yield from lines


def _page(settings: Settings, path: str) -> Any:
    address = f"http://{settings.web_host}:{settings.web_port}{path}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return msgspec.json.decode(answer.read())
    except (OSError, msgspec.DecodeError) as error:
        raise PageError(
            f"No worker answers at {address} ({error}): start one, or say where it is with --web-host and --web-port."
        ) from None


def _require_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.web_host, settings.web_port))
        except OSError as error:
            where = f"{settings.web_host}:{settings.web_port}"
            raise PortError(
                f"The worker's pages cannot listen on {where} ({error.strerror}): end what listens there, or choose "
                "another port with SLOTWISE_WEB_PORT (0: any free one)."
            ) from error


def _cell(value: Any) -> Text:
    return Text(f"{value:.3f}" if isinstance(value, float) else str(value))


def _without_password(text: str) -> str:
    head, at, tail = text.rpartition("@")
    scheme, slashes, user = head.partition("://")
    return f"{scheme}://{user.partition(':')[0]}:***@{tail}" if at and slashes and ":" in user else text


# The way in ---------------------------------------------------------------------------------------------------------


def code_of(error: BaseException) -> int | None:
    """Find the exit code of an error that we know; None: a bug of ours, to be shown whole."""
    if hasattr(error, "format_message"):  # the command line itself is wrong
        return MISTAKE
    kinds = [kind.__name__ for kind in type(error).__mro__]
    known = next((CODES[kind] for kind in kinds if kind in CODES), None)
    if known is None:
        return MISTAKE if isinstance(error, OSError) else None
    cause = {kind.__name__ for kind in type(error.__cause__ or error.__context__).__mro__}
    return UNREACHABLE if ABOUT_SERVERS.intersection(kinds) and cause & NO_ANSWER else known


def sentence_of(error: BaseException) -> str:
    """Say what an error means for the person who gave the command."""
    if hasattr(error, "format_message"):
        return str(error.format_message())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read or written: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: list[str] | None = None) -> None:
    """Run a command; the process ends with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = typer.main.get_command(app).main(args=words, prog_name="slotwise", standalone_mode=False)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        found = code_of(error)
        if found is None:
            raise
        code = found
        if "--json" in words:
            typer.echo(msgspec.json.encode({"error": sentence_of(error), "exit_code": code}).decode(), err=True)
        else:
            err.print(Text(sentence_of(error)))
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
