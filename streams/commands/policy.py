"""`slotwise policy`: check, show, compare and activate policy and catalogue, at one position of every partition."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec import Struct
from rich.console import Console

from schemas.events import FleetControl, PolicyActivated
from streams.commands.confirm import confirm
from streams.commands.console import err, line, out, print_json
from streams.commands.control import SETTINGS, ControlFields, gives
from streams.commands.options import Json, takes
from streams.core.policy.catalog import Catalog
from streams.core.policy.difference import Difference, differences, values
from streams.core.policy.document import RulebookError, nearest, parse, read
from streams.core.policy.rulebook import Policy, Rulebook, load_rulebook
from streams.errors import FAILED, SlotwiseError
from streams.settings import Settings, from_environment
from streams.shipped import catalog_text, file_rulebook, policy_file, ready_policies, whole
from streams.text import printable
from streams.text_file import read_text_file

if TYPE_CHECKING:
    from streams.views.overview import RecoveredPartition

app = typer.Typer(help="Check, show, compare and activate policy and catalogue.")

Offline = Annotated[bool, typer.Option("--offline", help="Ask no broker: the files that the settings name.")]


class Checked(Struct, frozen=True, kw_only=True):
    """Which files were checked, every mistake in them, and what the policies leave out."""

    files: tuple[str, ...]
    mistakes: tuple[str, ...]
    #: By policy: keys that it leaves out, which have the shipped values.
    inherited: dict[str, tuple[str, ...]]


class InForce(Struct, frozen=True, kw_only=True):
    """The policy and catalogue in force."""

    policy: str
    catalog: str
    #: `activated`: by an event; `files`: those that the worker was started with.
    source: str
    #: Hashes of the configured files; they decide only until a policy is activated.
    files: tuple[str, str]
    models: tuple[str, ...]
    #: Keys that the configured policy leaves out, which have the shipped values; empty where another is in force.
    inherited: tuple[str, ...]
    sections: dict[str, Any]
    #: Partitions that decide by others, with the hashes of their policy and catalogue.
    others: dict[int, tuple[str, str]]


@app.command("check", epilog="Example: slotwise policy check my-policy.toml my-catalog.toml")
@takes("catalog", "policy")
def check(
    settings: Settings,
    *,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Policies and catalogues. Default: the configured ones.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check policies and catalogues and report all mistakes, as a start of a worker would.

    A policy is checked against its catalogue, and the plug-ins that it names must be installed here. What it leaves out
    is as in the shipped policy, and is listed. Exit code 1: there are mistakes.
    """
    from streams.plugins.advisor import Plugins  # noqa: PLC0415 - needed by this command only

    texts = {str(file): read_text_file(file) for file in files or ()}
    catalogs = {file: text for file, text in texts.items() if is_catalog(text)}
    catalogs = catalogs or {settings.catalog or "catalog.toml": catalog_text(settings)}
    policies = {file: whole(text) for file, text in texts.items() if file not in catalogs}
    policies = policies or {settings.policy or "policy.toml": policy_file(settings)}
    mistakes: dict[str, None] = {}
    for catalog_file, catalog in catalogs.items():
        for file, policy in policies.items():
            try:
                Plugins().check(
                    load_rulebook(
                        *(catalog, policy.text),
                        catalog_file=catalog_file,
                        policy_file=file,
                        inherited=policy.inherited,
                    )
                )
            except RulebookError as error:
                mistakes |= dict.fromkeys(error.problems)
    checked = Checked(
        files=(*catalogs, *policies),
        mistakes=tuple(mistakes),
        inherited={file: policy.inherited for file, policy in policies.items() if policy.inherited},
    )
    if as_json:
        print_json(checked)
    else:
        for mistake in checked.mistakes:
            err.print(line(mistake))
        count = f"{len(checked.mistakes)} mistakes" if checked.mistakes else "no mistakes"
        out.print(line(f"{', '.join(checked.files)}: {count}."))
        for file, inherited in checked.inherited.items():
            out.print(line(f"{file} leaves out, and so has as shipped: {', '.join(inherited)}."))
    if checked.mistakes:
        raise typer.Exit(FAILED)


@app.command("ready", epilog="Example: slotwise policy ready subscriptions > my-policy.toml")
def ready(
    name: Annotated[str | None, typer.Argument(help="Which one to print. Default: say what there is.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the ready policies to start from, or print one, to copy and change it.

    Each has only what it changes; the rest is as in the shipped policy.
    """
    policies = ready_policies()
    if name is not None and name not in policies:
        near = nearest(name, policies)
        raise typer.BadParameter(
            f"there is no ready policy {printable(name)}, but {', '.join(policies)}.{near}", param_hint="NAME"
        )
    if name is not None and not as_json:
        typer.echo(policies[name], nl=False)
    elif as_json:
        print_json(policies if name is None else {name: policies[name]})
    else:
        for each, text in policies.items():
            out.print(line(f"{each}: {_purpose(text)}"))


@app.command("show", epilog="Example: slotwise policy show --json")
@takes(*SETTINGS, join=True)
def show(
    settings: Settings,
    *,
    text: Annotated[
        bool, typer.Option("--text", help="Print it as a whole file with its comments, to copy and change it.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Show the policy in force, with every value, those that its file leaves out included.

    Exit code 1: the partitions do not decide by the same rules.
    """
    if text:
        active = active_rules(settings, offline=offline)[0]
        typer.echo(active.policy_text if active.policy_text is not None else policy_file(settings).text, nl=False)
        return
    found = _in_force(settings, offline=offline)
    if as_json:
        print_json(found)
    else:
        if found.files != (found.policy, found.catalog):
            err.print(f"The files here say otherwise: policy {found.files[0]}, catalogue {found.files[1]}.")
        out.print(f"# policy {found.policy}, catalogue {found.catalog} ({', '.join(found.models)}); {found.source}")
        if found.inherited:
            out.print(line(f"# left out, and so as shipped: {', '.join(found.inherited)}"))
        section = ""
        for key, value in values(_policy_of(found)).items():
            head = key.partition(".")[0].partition("[")[0]
            if head != section:
                section = head
                out.print()
            out.print(line(f"{key} = {_plain(value)}"))
        for number, (policy, catalog) in found.others.items():
            err.print(f"Partition {number} decides by policy {policy} and catalogue {catalog}.")
    if found.others:
        raise typer.Exit(FAILED)


@app.command("diff", epilog="Example: slotwise policy diff my-policy.toml")
@takes(*SETTINGS, join=True)
def diff(
    settings: Settings,
    *,
    other: Annotated[Path, typer.Argument(help="A policy or a catalogue.", show_default=False)],
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Compare the policy or catalogue in force with a file, value by value: `premium.ev_percentile 0.5 -> 0.6`.

    Exit code 1: they differ.
    """
    text = read_text_file(other)
    active = active_rules(settings, offline=offline)[0]
    found: tuple[Difference, ...]
    if is_catalog(text):
        found = differences(active.catalog, read(text, Catalog, str(other)))
    else:
        found = differences(active.policy, read(whole(text).text, Policy, str(other)))
    if as_json:
        print_json(found)
    else:
        print_differences(found, out)
    if found:
        raise typer.Exit(FAILED)


@app.command("activate", epilog="Example: slotwise policy activate --policy my-policy.toml")
@gives
def activate(
    fields: ControlFields,
    *,
    context: typer.Context,
    shipped: Annotated[bool, typer.Option("--shipped", help="The shipped policy and catalogue.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
) -> FleetControl:
    """Put policy and catalogue in force on every partition, each at one position of its log; no restart is needed.

    --policy and --catalog name the files; of the one that is not named the configured one is used. They are checked
    first, with the slots and tasks of every partition, and what differs from those in force is shown before you are
    asked. They stay in force over restarts, instead of the workers' files.
    """
    settings = fields.settings
    named = [name for name in ("policy", "catalog") if context.params.get(name) is not None]
    if shipped and named:
        raise typer.BadParameter("name files or take the shipped ones, not both.", param_hint="--shipped")
    if not shipped and not named:
        raise typer.BadParameter("name the file, or take the shipped ones with --shipped.", param_hint="--policy")
    if shipped:
        settings = msgspec.structs.replace(settings, policy="", catalog="")
    rulebook = file_rulebook(settings)
    # Before the first activation the configured files are in force, not those that this command names.
    stated = from_environment(os.environ)
    configured = msgspec.structs.replace(fields.settings, **{name: stated.get(name, "") for name in named})
    active = active_rules(configured, offline=False)[0]
    found = (*differences(active.policy, rulebook.policy), *differences(active.catalog, rulebook.catalog))
    print_differences(found, err)
    if (unseen := never_replayed(fields.settings, rulebook)) is not None:
        err.print(line(unseen))
    if not yes:
        confirm(
            "Activate this on every partition?",
            unasked=typer.BadParameter(
                "there is no terminal to ask on: add --yes to activate this.", param_hint="--yes"
            ),
            refused="Nothing was activated.",
        )
    return PolicyActivated(
        **fields.common(),
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        policy_text=rulebook.policy_text,
        catalog_text=rulebook.catalog_text,
    )


def print_differences(found: Sequence[Difference], console: Console) -> None:
    """Print them, a line a value."""
    for one in found:
        console.print(line(difference_line(one)))
    if not found:
        console.print("No value differs.")


def difference_line(one: Difference) -> str:
    """Say what a value is and will be: `premium.ev_percentile 0.5 -> 0.6`."""
    return f"{one.key} {_plain(one.old)} -> {_plain(one.new)}"


def never_replayed(settings: Settings, rulebook: Rulebook) -> str | None:
    """Say that the audit has no replay of these rules, or that it cannot be asked; None: it has one."""
    from streams.database.connection import Timeouts  # noqa: PLC0415 - brings the database driver along
    from streams.topics import name_in_audit  # noqa: PLC0415
    from streams.views.proposals import was_replayed  # noqa: PLC0415

    try:
        if was_replayed(
            settings.database,
            name_in_audit(settings),
            policy=rulebook.policy_hash,
            catalog=rulebook.catalog_hash,
            timeouts=Timeouts.of(settings),
        ):
            return None
    except SlotwiseError as error:
        return f"Whether these rules were ever replayed is not known, as the audit does not answer: {error}"
    return (
        "These rules were never replayed: the audit has no such step of `slotwise policy propose`, and none of "
        "`slotwise replay --record`, which show what they would have changed."
    )


def _purpose(text: str) -> str:
    """Return the first sentence of a policy's head."""
    head = itertools.takewhile(lambda row: row.startswith("#"), text.splitlines())
    return " ".join(row.removeprefix("#").strip() for row in head).partition(". ")[0] + "."


def is_catalog(text: str) -> bool:
    """Whether a file is a catalogue: it lists models. A file that is no TOML counts as a policy."""
    try:
        return "model" in parse(text, "")
    except RulebookError:
        return "[[model]]" in text


def active_rules(settings: Settings, *, offline: bool) -> tuple[Rulebook, dict[int, RecoveredPartition]]:
    """Return the rules in force in partition 0, and every partition; offline those of the configured files alone."""
    from streams.operate.read_partitions import read_partitions  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    if offline:
        return file_rulebook(settings), {}
    check_topics(settings)
    found = asyncio.run(read_partitions(settings, range(settings.partitions)))
    return found[0].router.rulebook, found


def _in_force(settings: Settings, *, offline: bool) -> InForce:
    rulebook, found = active_rules(settings, offline=offline)
    files = file_rulebook(settings)
    hashes = _hashes(rulebook)
    decided = {number: one.decided_by or _hashes(one.router.rulebook) for number, one in found.items()}
    activated = any(one.router.state.activated is not None for one in found.values())
    return InForce(
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        source="activated" if activated else "files",
        files=_hashes(files),
        models=tuple(rulebook.models),
        inherited=policy_file(settings).inherited if files.policy_hash == rulebook.policy_hash else (),
        sections=msgspec.to_builtins(rulebook.policy),
        others={number: by for number, by in decided.items() if by != hashes},
    )


def _hashes(rulebook: Rulebook) -> tuple[str, str]:
    return rulebook.policy_hash, rulebook.catalog_hash


def _policy_of(found: InForce) -> Policy:
    return msgspec.convert(found.sections, Policy)


def _plain(value: Any) -> str:
    return "(none)" if value is None else msgspec.json.encode(value).decode()
