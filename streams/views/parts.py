"""The parts around the router as an operator sees them: workers, their partitions, and the audit behind the journal.

Pure: `operate/parts.py` asks broker and database, and this says what of it needs a look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from streams.views.attention import Attention


class WorkerView(Struct, frozen=True, kw_only=True):
    """One member of the workers' group."""

    member: str
    host: str
    #: None: the broker does not say.
    partitions: tuple[int, ...] | None


class AuditView(Struct, frozen=True, kw_only=True):
    """How far the audit in Postgres is."""

    #: Why Postgres could not be asked; None: it answered.
    trouble: str | None = None
    #: Steps of the journal that the audit does not have, by partition; those without any are absent.
    behind: Mapping[int, int] = {}

    @property
    def steps_behind(self) -> int:
        """Steps that are missing, of all partitions."""
        return sum(self.behind.values())


class Parts(Struct, frozen=True, kw_only=True):
    """The parts around the router."""

    #: None: the broker does not say who is in the group.
    workers: tuple[WorkerView, ...] | None = None
    #: Partitions that no worker has, as far as the broker says.
    unserved: tuple[int, ...] = ()
    #: None: not asked for.
    audit: AuditView | None = None


def sentence_behind(behind: Mapping[int, int]) -> str:
    """Say how far the audit is behind the journal, with the partitions."""
    steps = sum(behind.values())
    where = ", ".join(f"{count} in partition {partition}" for partition, count in sorted(behind.items()))
    return f"The audit is {'1 step' if steps == 1 else f'{steps} steps'} behind the journal ({where})"


def parts_attention(parts: Parts) -> Iterator[Attention]:
    """Return what needs a look."""
    if parts.workers == ():
        yield Attention(says="No worker runs: nothing is decided. Start one with `slotwise worker`.")
    elif parts.unserved:
        yield Attention(
            says=f"No worker has partition {', '.join(map(str, parts.unserved))}: their pools wait. This passes when "
            "the workers have shared the partitions; if it stays, start a worker again.",
        )
    if parts.audit is None:
        return
    if parts.audit.trouble is not None:
        yield Attention(
            says=f"The audit does not answer: {parts.audit.trouble} Tasks are routed; the audit has them when the sink "
            "can write again.",
        )
    elif parts.audit.behind:
        yield Attention(
            says=f"{sentence_behind(parts.audit.behind)} and does not catch up: is `slotwise sink` running?"
        )


def notes(parts: Parts) -> Iterator[str]:
    """Return what is worth knowing and needs nothing."""
    if parts.workers:
        spare = [one.member for one in parts.workers if one.partitions == ()]
        yield (
            f"{len(parts.workers)} worker{'s' if len(parts.workers) > 1 else ''}"
            + (f"; without partitions, as a spare: {', '.join(spare)}" if spare else "")
            + "."
        )
    if parts.audit is not None and parts.audit.trouble is None and not parts.audit.behind:
        yield "The audit has every step of the journal."
