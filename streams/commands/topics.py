"""`slotwise topics`: the topics of an installation."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from streams.commands.console import out, print_json
from streams.commands.options import Json, takes
from streams.settings import Settings

app = typer.Typer(help="Create, list and check the topics of an installation.")


@app.command("create", epilog="Example: slotwise topics create --partitions 32 --replication 3")
@takes("broker", "topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_create(settings: Settings, *, as_json: Json = False) -> None:
    """Create the topics that are missing; those that are there are checked, not changed."""
    from streams.topics import create_topics  # noqa: PLC0415 - brings the Kafka client along

    created = create_topics(settings)
    if as_json:
        print_json({"created": created})
    else:
        out.print("\n".join(created) if created else "All topics are there already.")


@app.command("renew", epilog="Example: slotwise topics renew --confirm slotwise")
@takes(
    *("broker", "topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max"),
    "session_timeout_s",
    join=True,
)
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


@app.command("list", epilog="Example: slotwise topics list --json")
@takes("topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_list(settings: Settings, *, as_json: Json = False) -> None:
    """List the topics of this installation with their settings, to create them with another tool."""
    from streams.topics import topics  # noqa: PLC0415 - brings the Kafka client along

    wanted = topics(settings)
    if as_json:
        print_json(wanted)
        return
    grid = Table("topic", "partitions", "replication", "settings", box=None)
    for topic in wanted:
        configs = " ".join(f"{key}={value}" for key, value in topic.configs.items())
        grid.add_row(topic.name, str(topic.partitions), str(topic.replication), configs)
    out.print(grid)


@app.command("check", epilog="Example: slotwise topics check --broker kafka-1:9092")
@takes("broker", "topic_prefix", "group", "partitions", "replication", "retention_hours", "step_bytes_max", join=True)
def topics_check(settings: Settings, *, as_json: Json = False) -> None:
    """Check that all topics are there as slotwise needs them, as every start does."""
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along

    check_topics(settings)
    if as_json:
        print_json({"ok": True})
    else:
        out.print("All topics are as slotwise needs them.")
