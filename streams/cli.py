"""The command line: one file a group of commands, joined here; every error is one sentence.

What the exit codes mean is in `errors.py`. Heavy libraries are imported by the command that needs them,
so that `--help` is there at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import msgspec
import typer

from streams.errors import FAILED, MISTAKE, foreign_package
from streams.secret import masked
from streams.text import printable

try:
    from streams.commands import (
        audit,
        catalog,
        control,
        dispatch,
        dlq,
        fleet,
        journal,
        lag,
        listing,
        policy,
        propose,
        replay,
        run,
        send,
        settings,
        shadow,
        simulate,
        stats,
        tables,
        topics,
    )
    from streams.commands.codes import code_of, sentence_of
    from streams.commands.console import err, line
except ImportError as foreign:
    sys.stderr.write(f"{foreign_package(foreign)}\n")
    sys.exit(MISTAKE)

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    name="slotwise",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for group in (run, send, dispatch, fleet, lag, listing, control, audit, replay, stats, settings):
    app.add_typer(group.app)
policy.app.add_typer(propose.app)
app.add_typer(policy.app, name="policy")
app.add_typer(catalog.app, name="catalog")
app.add_typer(topics.app, name="topics")
app.add_typer(journal.app, name="journal")
app.add_typer(dlq.app, name="dlq")
app.add_typer(shadow.app, name="shadow")
app.add_typer(tables.app, name="tables")
app.add_typer(simulate.app, name="simulate")


@app.callback(invoke_without_command=True)
def slotwise(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Say which slotwise this is, and end.")] = False,
) -> None:
    """Give each task of an LLM agent fleet to the slot where it is worth the most, with the reason.

    Start with: slotwise up --sample
    """
    if version:
        settings.version(as_json=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run a command; the process ends with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = typer.main.get_command(app).main(args=words, prog_name="slotwise", standalone_mode=False)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - a bug is shown whole, but for passwords
        found = code_of(error)
        if found is None:
            sys.stderr.write(masked(traceback.format_exc()))
            sys.exit(FAILED)
        code = found
        if "--json" in words:
            typer.echo(
                msgspec.json.encode({"error": printable(sentence_of(error)), "exit_code": code}).decode(), err=True
            )
        else:
            err.print(line(sentence_of(error)))
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
