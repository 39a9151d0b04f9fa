"""What the tests of operators' commands share: slots and tasks in a pool of one's own, orders and what they answer."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg
from msgspec.structs import replace

from streams.clock import SystemClock
from streams.operate.read_partitions import partitions_of, read_partitions
from streams.operate.send import Kind, send
from streams.secret import Dsn
from streams.settings import Settings
from streams.views import listing
from streams.views.overview import Overview, PoolView, RecoveredPartition, overview
from tests.functional.commands import until

if TYPE_CHECKING:
    from tests.functional.commands import Up


def settings(up: Up) -> Settings:
    """Give the settings of a command that joins the installation."""
    return replace(Settings(), broker=up.at.broker, database=Dsn(up.at.database), **up.at.settings)


def announce(up: Up, pool: str, *slots: str, account: str | None = None) -> None:
    """Announce slots, `haiku-1` for one that runs haiku, and wait until they are registered.

    Topics have no common order: a task that is sent now could be read before a slot that is not known yet, and wait.
    """
    _send(
        up,
        "slot",
        *({"slot_id": one, "pool": pool, "model": one.rpartition("-")[0], "account": account} for one in slots),
    )
    until(lambda: set(slots) <= registered(up, pool), f"{', '.join(slots)} in {pool}")


def registered(up: Up, pool: str) -> set[str]:
    """Return the ids of a pool's slots."""
    routers = [one.router for one in _partitions(up, pool).values()]
    return {one.slot_id for one in listing.slots(routers, pool=pool)}


def pend(up: Up, pool: str, task_id: str, **fields: Any) -> None:
    """Send a task."""
    _send(up, "task", {"task_id": task_id, "pool": pool, **fields})


def order(up: Up, *words: str) -> Any:
    """Give an order, see it succeed, and return its answer."""
    done = up.command(*words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def look(up: Up, pool: str) -> Overview:
    """Look at a pool as `check` does."""
    return overview(_partitions(up, pool), SystemClock().now_ms(), pool)


def pool_of(up: Up, pool: str) -> PoolView:
    """Return what is known of a pool."""
    (found,) = look(up, pool).pools
    return found


def comes_to(up: Up, task_id: str, want: str) -> dict[str, Any]:
    """Wait until the last decision about a task has an outcome or a reason code, and return it."""
    query = """
        SELECT outcome, reason_code, reason, chosen_model FROM v_model_routing_decisions
        WHERE task_id = %s ORDER BY seq DESC LIMIT 1
    """
    found: list[Any] = []

    def there() -> bool:
        found[:] = [_row(up, query, task_id)]
        return found[0] is not None and want in found[0][:2]

    until(there, f"{task_id} is {want}")
    return dict(zip(("outcome", "reason_code", "reason", "model"), found[0], strict=True))


def audited(up: Up, control_id: str) -> dict[str, Any]:
    """Wait until an order stands in the audit, taken by as many partitions as it says, and return its line."""
    query = "SELECT kind, by, pool, partitions FROM v_fleet_controls WHERE control_id = %s"
    names = ("kind", "by", "pool", "partitions")
    wanted = range(settings(up).partitions)

    def whole() -> bool:
        row = _row(up, query, control_id)
        return row is not None and (row[2] is not None or len(row[3]) == len(wanted))

    until(whole, f"{control_id} in the audit")
    return dict(zip(names, _row(up, query, control_id), strict=True))


def _partitions(up: Up, pool: str) -> dict[int, RecoveredPartition]:
    known = settings(up)
    return asyncio.run(read_partitions(known, partitions_of(known, pool)))


def _row(up: Up, query: str, id_: str) -> Any:
    with psycopg.connect(up.at.database) as audit:
        return audit.execute(query.encode(), (id_,)).fetchone()


def _send(up: Up, kind: Kind, *events: dict[str, Any]) -> None:
    sent = send(settings(up), kind, [json.dumps(event).encode() for event in events], stamp=True)
    assert sent.sent == len(events), sent.refusals
