"""What a shadow has found, as plain values for terminal, JSON and pages: sums of both sides, and each difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, get_args

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import dict_row

from schemas.shadow import Answer, DifferenceKind
from schemas.vocabulary import from_millis
from streams.database.connection import DEFAULT_TIMEOUTS, Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.errors import FAILED, SlotwiseError
from streams.secret import Dsn
from streams.shadow.sums import Side, Sums
from streams.simulate.fleet_words import words

#: In the order in which differences are shown.
KINDS: Final[tuple[DifferenceKind, ...]] = get_args(DifferenceKind)
#: Those in which another choice was made; the others are the same choice for another reason or on other terms.
CHANGED: Final[tuple[DifferenceKind, ...]] = KINDS[:5]
RUNS_MAX: Final = 50
#: A shadow that routes less than this share of the live tasks prefers others, and its money is that of those.
_FEW: Final = 0.9


class NoShadowError(SlotwiseError):
    """There is no such shadow; the message says which there are."""

    exit_code = FAILED


class SideView(Struct, frozen=True, kw_only=True):
    """What one side routed, from where the run began."""

    routed: int
    models: dict[str, int]
    tiers: dict[str, int]
    estimated_usd: float
    #: Routed work whose price is not known.
    unpriced: int
    #: Of the routed work, what waited; the mean is over all of it.
    waited: int
    wait_s_mean: float
    wait_s_max: float


class ShadowView(Struct, frozen=True, kw_only=True):
    """One run."""

    run: str
    name: str
    #: `under way`: it may have no process at the moment; `slotwise lag` says how far it is.
    state: str
    policy: str
    catalog: str
    #: Its own slots by model, in each pool; None: the live ones, whose moves it takes as given.
    fleet: dict[str, int] | None
    journal: str
    started_at: str
    ended_at: str | None
    #: The first and the last step compared.
    first_at: str | None
    last_at: str | None
    steps: int
    decisions: int
    #: By kind, and how many of them are another choice.
    differences: dict[str, int]
    changed: int
    live: SideView
    shadow: SideView
    says: str
    #: Last step compared, by partition.
    partitions: dict[str, int]

    @property
    def slots(self) -> str:
        """Its slots, as `--fleet` reads them."""
        return "the live ones" if self.fleet is None else words(self.fleet)

    @property
    def kinds(self) -> str:
        """The differences by kind, as a sentence."""
        kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in self.differences.items())
        return f"Differences: {kinds or 'none'}."


class DifferenceView(Struct, frozen=True, kw_only=True):
    """One difference."""

    kind: str
    decided_at: str
    pool: str
    task_id: str
    title: str | None
    attempt: int
    priority: int
    ev: float | None
    layer: str | None
    lane: str | None
    tenant_id: str | None
    task_type: str | None
    live: Answer
    shadow: Answer
    #: What the shadow's choice costs more, or less, by the estimates; None: not both sides have one.
    more_usd: float | None
    policy: str
    live_policy: str
    partition: int
    seq: int
    difference_id: str


class ShadowReport(Struct, frozen=True, kw_only=True):
    """A run with its differences: changed choices first, the latest of each kind first."""

    run: ShadowView
    differences: tuple[DifferenceView, ...]
    #: How many there are beyond those.
    more: int


def shadows(
    dsn: Dsn | str, *, name: str | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> tuple[ShadowView, ...]:
    """Return the runs of shadows, those under way first.

    Raises:
        DatabaseError: Postgres does not answer, or has no such tables.
    """
    with _open(dsn, timeouts) as connection:
        rows = connection.execute(QUERIES["shadow_status"], {"name": name, "rows_max": RUNS_MAX}).fetchall()
    return tuple(_run(row) for row in rows)


def report(
    dsn: Dsn | str,
    name: str | None,
    *,
    kind: str | None = None,
    limit: int = 100,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> ShadowReport:
    """Return the latest run of a name, or the latest of all, with its differences.

    Raises:
        NoShadowError: there is none.
        DatabaseError: Postgres does not answer, or has no such tables.
    """
    runs = shadows(dsn, timeouts=timeouts)
    run = latest(runs, name)
    if run is None:
        known = ", ".join(sorted({one.name for one in runs}))
        raise NoShadowError(
            f"There is no shadow {name or ''}".rstrip()
            + (f": there are {known}." if known else ": begin one with `slotwise shadow start --policy FILE`.")
        )
    return report_of(dsn, run, kind=kind, limit=limit, timeouts=timeouts)


def latest(runs: Sequence[ShadowView], name: str | None) -> ShadowView | None:
    """Return the latest run of a name, or the latest of all; `runs` are as `shadows` gives them."""
    return next((one for one in runs if name in (None, one.name)), None)


def report_of(
    dsn: Dsn | str,
    run: ShadowView,
    *,
    kind: str | None = None,
    limit: int = 100,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> ShadowReport:
    """Return a run with its differences.

    Raises:
        DatabaseError: Postgres does not answer, or has no such tables.
    """
    named = {"run": run.run, "kind": kind, "order": list(KINDS), "rows_max": limit}
    with _open(dsn, timeouts) as connection:
        rows = connection.execute(QUERIES["shadow_differences"], named).fetchall()
    found = tuple(_difference(row) for row in rows)
    return ShadowReport(run=run, differences=found, more=rows[0]["found"] - len(found) if rows else 0)


def end(dsn: Dsn | str, name: str, *, forget: bool, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> int:
    """Ask the processes of a shadow to end, and with `forget` remove all that it found; return the number of runs.

    Raises:
        DatabaseError: Postgres does not answer, or this login may not write.
    """
    with _open(dsn, timeouts) as connection, connection.transaction():
        ended = connection.execute(QUERIES["shadow_end"], {"name": name}).fetchall()
        if forget:
            ended = connection.execute(QUERIES["shadow_forget"], {"name": name}).fetchall()
    return len(ended)


@contextmanager
def _open(dsn: Dsn | str, timeouts: Timeouts) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with connect(dsn, timeouts, application="slotwise shadow") as connection, reading_audit():
        connection.row_factory = dict_row  # type: ignore[assignment]
        yield connection  # type: ignore[misc]


def _run(row: dict[str, Any]) -> ShadowView:
    total = Sums()
    for one in row["partitions"]:
        total.take(msgspec.convert(one["sums"], Sums, strict=False))
    return ShadowView(
        run=str(row["run"]),
        name=row["name"],
        state="under way" if row["stop_asked_at"] is None else "ended",
        policy=row["policy"],
        catalog=row["catalog"],
        fleet=row["fleet"],
        journal=row["journal"],
        started_at=_moment(row["started_at"]),
        ended_at=None if row["stop_asked_at"] is None else _moment(row["stop_asked_at"]),
        first_at=None if total.first_ms is None else from_millis(total.first_ms),
        last_at=None if total.last_ms is None else from_millis(total.last_ms),
        steps=total.steps,
        decisions=total.decisions,
        differences={kind: total.differences[kind] for kind in KINDS if kind in total.differences},
        changed=_changed(total),
        live=_side(total.live),
        shadow=_side(total.shadow),
        says=sentence(total, row["fleet"]),
        partitions={str(one["partition"]): one["seq"] for one in row["partitions"]},
    )


def sentence(total: Sums, fleet: dict[str, int] | None = None) -> str:
    """Return what a run found so far, in a sentence or two; `fleet` are slots of its own."""
    live, shadow = total.live, total.shadow
    says = (
        f"{total.decisions:,} live decisions compared, {sum(total.differences.values()):,} differ, "
        f"{_changed(total):,} of them in what is chosen; "
        f"estimated ${shadow.cost_uusd / 1e6:.2f} for {shadow.routed:,} routed tasks where it is "
        f"${live.cost_uusd / 1e6:.2f} for {live.routed:,}."
    )
    if fleet is not None:
        says += (
            f" It has slots of its own ({words(fleet)}), so these are consequences too, by the times that work takes: "
            "counterfactuals, not the policy's differences alone."
        )
    elif shadow.routed < _FEW * live.routed:
        says += (
            " The shadow would give slots to other tasks, each of which counts once: compare the money of a task, "
            "and see by `slotwise replay` what its order comes to."
        )
    return says


def _changed(total: Sums) -> int:
    return sum(total.differences.get(kind, 0) for kind in CHANGED)


def _side(side: Side) -> SideView:
    return SideView(
        routed=side.routed,
        models=dict(sorted(side.models.items())),
        tiers={str(tier): count for tier, count in sorted(side.tiers.items())},
        estimated_usd=side.cost_uusd / 1_000_000,
        unpriced=side.unpriced,
        waited=side.waited,
        wait_s_mean=round(side.wait_ms / side.routed / 1000, 3) if side.routed else 0.0,
        wait_s_max=side.wait_ms_max / 1000,
    )


def _difference(row: dict[str, Any]) -> DifferenceView:
    live, shadow = (msgspec.convert(row[side], Answer) for side in ("live", "shadow"))
    costs = (live.estimated_cost_uusd, shadow.estimated_cost_uusd)
    more = None if costs[0] is None or costs[1] is None else (costs[1] - costs[0]) / 1_000_000
    fields = {name: row[name] for name in DifferenceView.__struct_fields__ if name in row}
    return DifferenceView(
        **fields
        | {
            "decided_at": _moment(row["decided_at"]),
            "difference_id": str(row["difference_id"]),
            "live": live,
            "shadow": shadow,
            "more_usd": more,
        }
    )


def _moment(at: Any) -> str:
    return from_millis(round(at.timestamp() * 1000))
