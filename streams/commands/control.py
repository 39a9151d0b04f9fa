"""The operator's orders. Each is one event in the log of every partition that it concerns, and is audited."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import os
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer
from msgspec import Struct

from schemas.events import (
    BreakerOpened,
    BudgetCredited,
    FleetControl,
    LaneRestarted,
    ModelDrained,
    ModelExhausted,
    ModelRestored,
    QuotaUpdated,
    SlotRetired,
    TaskCancelled,
    TaskRetried,
)
from schemas.vocabulary import from_millis
from streams.clock import SystemClock
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.operate.orders import Submitted

app = typer.Typer()
quota_app = typer.Typer(help="Report how much of a product's quota is used.")
app.add_typer(quota_app, name="quota", rich_help_panel="The fleet")
breaker_app = typer.Typer(help="Suspend a cap of what may be spent an hour, or put it in force again.")
app.add_typer(breaker_app, name="breaker", rich_help_panel="The fleet")

PANEL: Final = "The fleet"
#: Settings that an order uses: the broker, and catalogue and policy for checks.
SETTINGS: Final = ("broker", "topic_prefix", "group", "partitions", "step_bytes_max", "catalog", "policy")

Pool = Annotated[str | None, typer.Option(help="Only in this pool. Default: in all of them.")]
Tenant = Annotated[str | None, typer.Option(help="The cap of this tenant.")]
Lane = Annotated[str | None, typer.Option(help="The cap of this lane.")]
OnePool = Annotated[str, typer.Option(help="The pool.", show_default=False)]
Account = Annotated[str | None, typer.Option(help="Only for this account. Default: for all.")]
#: How times may be given.
TIME: Final = "2026-11-21T15:00:00Z, 3h, or 'tomorrow 09:00'"
Until = Annotated[str | None, typer.Option(metavar="TIME", help=f"End of it: {TIME}. Default: none.")]

By = Annotated[str | None, typer.Option(help="Who gives the order. Default: your login name.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until every partition has accepted or refused the order.")
]
WaitS = Annotated[float, typer.Option("--wait-s", min=0.1, max=3600, help="Longest wait, in seconds.")]
ControlId = Annotated[
    str | None, typer.Option(help="Id of the order. An order given again under its id is one order. Default: a new id.")
]


New = Annotated[
    bool, typer.Option("--new", help="Send it though no partition knows the pool, slot, task or lane that it names.")
]


class ControlFields(Struct, frozen=True):
    """The fields that every order has, and the settings for its look-ups."""

    settings: Settings
    control_id: str
    at: str
    by: str

    def common(self) -> dict[str, Any]:
        """Return the fields that every operator event has."""
        return {"control_id": self.control_id, "at": self.at, "by": self.by}


def gives(function: Callable[..., FleetControl]) -> Callable[..., None]:
    """Make a command of a function that returns the order's event: check, send, wait, report.

    Exit codes: 0 it is in the log and, with --wait, in force; 1 it was refused, or not handled in time, or it names
    what no partition knows.
    """

    @functools.wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def command(
        settings: Settings,
        *,
        by: By = None,
        wait: Wait = True,
        wait_s: WaitS = 30.0,
        control_id: ControlId = None,
        new: New = False,
        as_json: Json = False,
        **own: Any,
    ) -> None:
        from streams.operate.known_names import check_names  # noqa: PLC0415
        from streams.operate.orders import check, submit  # noqa: PLC0415 - brings the Kafka client along
        from streams.topics import check_topics  # noqa: PLC0415

        fields = ControlFields(
            settings, control_id or str(uuid.uuid4()), from_millis(SystemClock().now_ms()), by or login()
        )
        check_topics(settings, "operator")
        event = function(fields, **own)
        asyncio.run(check(settings, event))
        if not new:
            asyncio.run(check_names(settings, event))
        with busy("Waiting for the router", quiet=as_json or not wait):
            submitted = submit(settings, event, wait_s=wait_s if wait else None)
        print_submitted(submitted, waited=wait, as_json=as_json)

    own = list(inspect.signature(function).parameters.values())[1:]
    settings_, *common, _ = inspect.signature(command, follow_wrapped=False).parameters.values()
    command.__signature__ = inspect.Signature([settings_, *own, *common])  # type: ignore[attr-defined]
    command.__annotations__ |= get_type_hints(function, include_extras=True)
    del command.__wrapped__  # else its signature would count, not ours
    return takes(*SETTINGS, join=True)(command)


def print_submitted(submitted: Submitted, *, waited: bool, as_json: bool) -> None:
    """Print the result of an order; exit code 1 where it was refused or not handled in time."""
    if as_json:
        print_json(submitted)
    else:
        where = " ".join(f"{one.partition}@{one.offset}" for one in submitted.positions)
        out.print(f"{submitted.kind} {submitted.control_id}: {_outcome(submitted, waited=waited)}.")
        out.print(f"{submitted.topic}, partition@offset: {where}")
        for one in submitted.positions:
            if one.reason is not None:
                err.print(line(f"Partition {one.partition} refused it: {one.reason}"))
            if one.note is not None:
                err.print(line(f"Partition {one.partition}: {one.note}"))
    if submitted.refused or (waited and submitted.open):
        raise typer.Exit(FAILED)


def _outcome(submitted: Submitted, *, waited: bool) -> str:
    count = len(submitted.positions)
    which = "the partition of its pool" if submitted.pool is not None else f"{count} of {count} partitions"
    if not waited:
        return f"sent to {which}; not waited for the router"
    if not submitted.refused and not submitted.open:
        return f"in force in {which}"
    text = f"in force in {count - len(submitted.refused) - len(submitted.open)} of {count} partitions"
    if submitted.refused:
        text += f", refused in {len(submitted.refused)}"
    if submitted.open:
        text += f", not yet taken in {len(submitted.open)} (it will be as soon as a worker has them)"
    return text


def login() -> str:
    """Return the name of who runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"uid-{os.getuid()}"


# The orders -----------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Example: slotwise exhausted codex --until 3h",
    rich_help_panel=PANEL,
)
@gives
def exhausted(
    fields: ControlFields,
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL_OR_PRODUCT", help="What is exhausted.", show_default=False)],
    until: Annotated[str, typer.Option(metavar="TIME", help=f"When it resets: {TIME}.")],
    account: Account = None,
    pool: Pool = None,
) -> FleetControl:
    """Mark a product as exhausted until its reset; the mark ends by itself.

    A model names the product that its quota is counted under: all models of that product are marked.
    """
    from streams.operate.orders import moment_ahead, named  # noqa: PLC0415 - brings the Kafka client along

    found = asyncio.run(named(fields.settings, name))
    return ModelExhausted(**fields.common(), **found, until=moment_ahead(until), account=account, pool=pool)


@app.command(epilog="Example: slotwise restore codex", rich_help_panel=PANEL)
@gives
def restore(
    fields: ControlFields,
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL_OR_PRODUCT", help="What serves again.", show_default=False)],
    account: Annotated[str | None, typer.Option(help="End what is known of this account only, and no drain.")] = None,
    pool: Pool = None,
) -> FleetControl:
    """End exhausted marks, drains and reported quotas now, before their time."""
    from streams.operate.orders import named  # noqa: PLC0415 - brings the Kafka client along

    return ModelRestored(**fields.common(), **asyncio.run(named(fields.settings, name)), account=account, pool=pool)


@app.command(epilog="Example: slotwise drain opus --until 'tomorrow 09:00'", rich_help_panel=PANEL)
@gives
def drain(
    fields: ControlFields,
    *,
    model: Annotated[str, typer.Argument(help="The model.", show_default=False)],
    until: Until = None,
    pool: Pool = None,
) -> FleetControl:
    """Take a model out of service: running tasks finish, no new one begins. Without --until it has no end."""
    from streams.operate.orders import moment_ahead  # noqa: PLC0415 - brings the Kafka client along

    ends = moment_ahead(until) if until is not None else None
    return ModelDrained(**fields.common(), model=model, until=ends, pool=pool)


@quota_app.command("set", epilog="Example: slotwise quota set --product claude --window 5h --utilisation 0.83")
@gives
def quota_set(
    fields: ControlFields,
    *,
    product: Annotated[str, typer.Option(help="The product.", show_default=False)],
    window: Annotated[str, typer.Option(help="The provider's window, by any name: 5h, week.", show_default=False)],
    utilisation: Annotated[float, typer.Option(min=0, help="Used share: 0.83 is 83 %.", show_default=False)],
    account: Account = None,
    resets_at: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"When it falls to 0: {TIME}. Default: by the policy.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="The provider's word for it; recorded, decides nothing.")] = None,
    provider: Annotated[str | None, typer.Option(help="Default: the product's, by the catalogue.")] = None,
    pool: Pool = None,
) -> FleetControl:
    """Report the usage of one window of a product; the policy's curve decides what it refuses.

    It counts until the window resets, a newer report comes, or `slotwise restore` ends it.
    """
    from streams.operate.orders import moment_ahead, provider_of  # noqa: PLC0415 - brings the Kafka client along

    return QuotaUpdated(
        **fields.common(),
        provider=provider or asyncio.run(provider_of(fields.settings, product)),
        product=product,
        window=window,
        utilisation=utilisation,
        account=account,
        resets_at=moment_ahead(resets_at, "resets-at") if resets_at is not None else None,
        status=status,
        pool=pool,
    )


@breaker_app.command("open", epilog="Example: slotwise breaker open --tenant acme --until 2026-11-21T15:00:00Z")
@gives
def breaker_open(
    fields: ControlFields,
    *,
    until: Annotated[str, typer.Option(metavar="ISO", help="When the cap holds again, as 2026-11-21T15:00:00Z.")],
    tenant: Tenant = None,
    lane: Lane = None,
    pool: Pool = None,
) -> FleetControl:
    """Suspend a cap of the cost breaker until a time: of a tenant, of a lane, or, with --pool alone, of that pool.

    What waits because of it is served at once. What is spent meanwhile counts on.
    """
    from streams.operate.orders import moment_ahead  # noqa: PLC0415 - brings the Kafka client along

    return BreakerOpened(**fields.common(), until=moment_ahead(until), tenant_id=tenant, lane=lane, pool=pool)


@breaker_app.command("close", epilog="Example: slotwise breaker close --tenant acme")
@gives
def breaker_close(
    fields: ControlFields, *, tenant: Tenant = None, lane: Lane = None, pool: Pool = None
) -> FleetControl:
    """Put a suspended cap in force again, before its time."""
    return BreakerOpened(**fields.common(), until=fields.at, tenant_id=tenant, lane=lane, pool=pool)


@app.command(
    epilog="Example: slotwise credit acme 25.00 --pool main",
    rich_help_panel=PANEL,
    context_settings={"ignore_unknown_options": True},  # a negative amount is no option
)
@gives
def credit(
    fields: ControlFields,
    *,
    tenant: Annotated[str, typer.Argument(help="The tenant.", show_default=False)],
    amount_usd: Annotated[float, typer.Argument(help="US dollars; negative takes back.", show_default=False)],
    pool: OnePool,
) -> FleetControl:
    """Add to a tenant's budget in a pool. Without any credit a tenant is not limited; from the first one on it is."""
    return BudgetCredited(**fields.common(), tenant_id=tenant, pool=pool, amount_usd=amount_usd)


@app.command(epilog="Example: slotwise retire opus-2 --pool main", rich_help_panel=PANEL)
@gives
def retire(
    fields: ControlFields,
    *,
    slot: Annotated[str, typer.Argument(help="The slot's id.", show_default=False)],
    pool: OnePool,
) -> FleetControl:
    """Take one slot out of its pool: it finishes its task and gets no other."""
    return SlotRetired(**fields.common(), slot_id=slot, pool=pool)


@app.command(epilog="Example: slotwise cancel t-17 --pool main", rich_help_panel=PANEL)
@gives
def cancel(
    fields: ControlFields,
    *,
    task: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: OnePool,
) -> FleetControl:
    """End a task's wait. A running task keeps its slot until it is freed, and is not tried again."""
    return TaskCancelled(**fields.common(), task_id=task, pool=pool)


@app.command(epilog="Example: slotwise retry t-17", rich_help_panel=PANEL)
@takes(*SETTINGS, join=True)
def retry(
    settings: Settings,
    *,
    task: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Its pool. Default: the one that knows it.")] = None,
    by: By = None,
    wait_s: WaitS = 30.0,
    control_id: ControlId = None,
    as_json: Json = False,
) -> None:
    """Run a task that has ended again, under its id: one that was given up, expired, cancelled or dropped, or is done.

    Attempts count from 1. Its event is taken from task.pending, as it was sent, with the present as its time.
    Exit code 1: it waits or runs, it is not known, or the order was refused or is not taken yet.
    """
    from streams.operate.retry import find_ended, run_again  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics  # noqa: PLC0415

    check_topics(settings)
    found = asyncio.run(find_ended(settings, task, pool))
    fields = ControlFields(
        settings, control_id or str(uuid.uuid4()), from_millis(SystemClock().now_ms()), by or login()
    )
    event = TaskRetried(**fields.common(), task_id=task, pool=found.pool)
    with busy(f"Looking for {task}: records read", quiet=as_json) as progress:
        retried = asyncio.run(run_again(settings, found, event, wait_s=wait_s, progress=progress))
    if as_json:
        print_json(retried)
    elif retried.sent is not None:
        had = "" if found.ended is None else f", which had ended at {found.ended_at} ({found.ended})"
        out.print(line(f"{task} of pool {found.pool}{had}, is run again."))
    else:
        print_submitted(retried.order, waited=True, as_json=False)
    if retried.sent is None:
        raise typer.Exit(FAILED)


@app.command("restart-lane", epilog="Example: slotwise restart-lane maintenance", rich_help_panel=PANEL)
@gives
def restart_lane(
    fields: ControlFields,
    *,
    lane: Annotated[str, typer.Argument(help="The lane: the stream of work that tasks name.", show_default=False)],
) -> FleetControl:
    """Mark the restart of a lane: its health is judged from here on. Tasks in flight are not touched."""
    return LaneRestarted(**fields.common(), lane=lane)
