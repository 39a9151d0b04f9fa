"""`slotwise topics`: the topics of an installation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from streams.access.rights import PARTS, grants, rights
from streams.access.rights import script as acl_script
from streams.commands.confirm import confirm
from streams.commands.console import err, line, out, print_json
from streams.commands.options import Json, takes
from streams.core.policy.document import nearest
from streams.errors import FAILED
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.topics import Difference

app = typer.Typer(help="Create, list, check and change the topics of an installation, and who may use them.")

#: What the topics depend on.
SETTINGS: Final = (
    "broker",
    "topic_prefix",
    "group",
    "partitions",
    "replication",
    "retention_hours",
    "step_bytes_max",
    "dry_run",
)


@app.command("create", epilog="Example: slotwise topics create --partitions 32 --replication 3")
@takes(*SETTINGS, join=True)
def topics_create(settings: Settings, *, as_json: Json = False) -> None:
    """Create the topics that are missing; those that are there are checked, not changed."""
    from streams.topics import create_topics  # noqa: PLC0415 - brings the Kafka client along

    created = create_topics(settings)
    if as_json:
        print_json({"created": created})
    else:
        out.print("\n".join(created) if created else "All topics are there already.")


@app.command("renew", epilog="Example: slotwise topics renew --confirm slotwise")
@takes(*SETTINGS, "session_timeout_s", join=True)
def topics_renew(
    settings: Settings,
    *,
    confirm: Annotated[str, typer.Option(help="The installation's group, to say that you mean it.")],
    as_json: Json = False,
) -> None:
    """Delete all topics and create them again: a new journal, from nothing. All tasks and decisions in them are gone.

    All workers must be stopped. The audit in Postgres stays; give the new journal another SLOTWISE_JOURNAL there.
    """
    from streams.topics import TopicsError, renew_topics  # noqa: PLC0415 - brings the Kafka client along

    if confirm != settings.group:
        raise TopicsError(
            f"This deletes all tasks and decisions on the broker at {settings.broker}: nothing was done. To do it, "
            f"confirm with the group's name: --confirm {settings.group}."
        )
    created = renew_topics(settings)
    if as_json:
        print_json({"created": created})
    else:
        out.print("\n".join(created))
        out.print("The audit keeps the old journal: set SLOTWISE_JOURNAL to another name before the sink starts.")


@app.command("list", epilog="Example: slotwise topics list --wanted --json")
@takes(*SETTINGS, join=True)
def topics_list(
    settings: Settings,
    *,
    wanted: Annotated[
        bool, typer.Option("--wanted", help="Ask no broker: only what is wanted, to create it with another tool.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the topics of this installation: what is wanted, and what the broker has of it."""
    from streams.topics import find_topics, topics  # noqa: PLC0415 - brings the Kafka client along

    specs = topics(settings)
    found = None if wanted else {one.wanted.name: one for one in find_topics(settings)}
    if as_json:
        print_json(specs if found is None else list(found.values()))
        return
    grid = Table(
        "topic", "partitions", "replication", *(() if found is None else ("on the broker",)), "settings", box=None
    )
    for topic in specs:
        configs = " ".join(f"{key}={value}" for key, value in topic.configs.items())
        status = () if found is None else (found[topic.name].status,)
        grid.add_row(topic.name, str(topic.partitions), str(topic.replication), *status, configs)
    out.print(grid)


@app.command("check", epilog="Example: slotwise topics check --broker kafka-1:9092")
@takes(*SETTINGS, join=True)
def topics_check(settings: Settings, *, as_json: Json = False) -> None:
    """Check that all topics are there as slotwise needs them, as every start does, with the settings that are set here.

    The exit code is 1 where one differs: `slotwise topics alter` brings it in line.
    """
    from streams.topics import check_topics, find_topics  # noqa: PLC0415 - brings the Kafka client along

    check_topics(settings)
    differences = [one for topic in find_topics(settings) for one in topic.differences]
    if as_json:
        print_json({"ok": not differences, "differences": differences})
    else:
        _print_differences(differences)
        if differences:
            err.print("To bring them in line: slotwise topics alter (or change the setting here).")
        else:
            out.print("All topics are as slotwise needs them.")
    if differences:
        raise typer.Exit(FAILED)


@app.command("alter", epilog="Example: slotwise topics alter --retention-hours 24 --yes")
@takes(*SETTINGS, join=True)
def topics_alter(
    settings: Settings,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """Give the topics on the broker the settings here; partitions and replication are never changed.

    A shorter retention deletes what is older, in the journal too: the sink must have read it.
    """
    from streams.topics import alter_topics, find_topics  # noqa: PLC0415 - brings the Kafka client along

    differences = [one for topic in find_topics(settings, "administrator") for one in topic.differences]
    if differences and not yes:
        _print_differences(differences)
        confirm(
            "Change these on the broker?",
            unasked=typer.BadParameter("there is no terminal to ask on: add --yes to change this.", param_hint="--yes"),
        )
    alter_topics(settings, differences)
    if as_json:
        print_json({"changed": differences})
    else:
        out.print(f"{len(differences)} settings were changed." if differences else "No setting differs.")


@app.command("acls", epilog="Example: slotwise topics acls worker sink --script > acls.sh")
@takes("broker", "topic_prefix", "group", "dry_run", join=True)
def topics_acls(
    settings: Settings,
    *,
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(PARTS)}. Default: all.", show_default=False)
    ] = None,
    principal: Annotated[
        str, typer.Option(help="Kafka's name of who does it; {part} stands for the part.")
    ] = "User:slotwise-{part}",
    script: Annotated[bool, typer.Option("--script", help="Print the commands that grant them.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/security.md.")] = False,
    as_json: Json = False,
) -> None:
    """List the rights on the broker that each part of slotwise needs, and no more; nothing is asked or changed."""
    from streams.topics import names  # noqa: PLC0415 - brings the Kafka client along

    for part in parts or ():
        if part not in PARTS:
            raise typer.BadParameter(f"{part} is none of {', '.join(PARTS)}.{nearest(part, PARTS)}", param_hint="PARTS")
    chosen = tuple(part for part in PARTS if not parts or part in parts)
    found = list(grants(chosen, names(settings), principal))
    if as_json:
        print_json(found)
    elif script:
        typer.echo("\n".join(acl_script(found, broker=settings.broker)))
    elif markdown:
        typer.echo("\n".join(markdown_table()))
    else:
        grid = Table("principal", "resource", "operations", box=None)
        for one in found:
            grid.add_row(line(one.principal), line(one.right.described), " ".join(one.right.operations))
        out.print(grid)


def markdown_table() -> Iterator[str]:
    """Return the lines of the table of docs/security.md: a row for rights of a part that share their operations."""
    from streams.topics import names  # noqa: PLC0415 - brings the Kafka client along

    yield "| principal | does | operations | topics and groups |"
    yield "|---|---|---|---|"
    for part, what in PARTS.items():
        together: dict[tuple[str, ...], list[str]] = {}
        for right in rights(part, names(Settings())):
            star = "*" if right.prefixed else ""
            kind = "group " if right.resource == "group" else ""
            together.setdefault((kind, *right.operations), []).append(f"`{right.name}{star}`")
        for number, ((kind, *operations), resources) in enumerate(together.items()):
            said = (f"`slotwise-{part}`", what) if number == 0 else ("", "")
            yield f"| {said[0]} | {said[1]} | {', '.join(operations)} | {kind}{', '.join(resources)} |"


def _print_differences(differences: Sequence[Difference]) -> None:
    for one in differences:
        out.print(line(f"{one.topic}: {one.name} is {one.found}, and the settings here make it {one.wanted}."))
