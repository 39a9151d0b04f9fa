"""Marks of the fleet as rows of the journal: exhausted products, drained models, reports of quotas, suspended caps."""

from __future__ import annotations

from msgspec import Struct

from schemas.vocabulary import BreakerScope, Millis


class ExhaustedMark(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A product is exhausted until a time, for one account or (None) for all; `pool` None: in the whole partition."""

    pool: str | None = None
    product: str
    account: str | None = None
    #: None: the mark ends now; without an account, the marks of all accounts end.
    until_ms: Millis | None = None


class DrainMark(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An operator took a model out of service; `pool` None: in the whole partition."""

    pool: str | None = None
    model: str
    #: False: it is in service again.
    drained: bool
    #: None: without end.
    until_ms: Millis | None = None


class QuotaRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Usage of one window of a product, as reported; `pool` None: in the whole partition."""

    pool: str | None = None
    product: str
    account: str | None = None
    #: None: what was reported of all windows ends now; without an account, of all accounts.
    window: str | None = None
    #: 0..1.
    utilisation: float = 0.0
    #: Falls to 0 then; None: in a journal of an earlier version, until the next report.
    resets_at_ms: Millis | None = None
    status: str | None = None
    #: When it was reported; of one window the newest report counts. None: by an earlier version.
    at_ms: Millis | None = None


class BreakerMark(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An operator suspended a cap of the cost breaker until a time; `pool` None: in the whole partition."""

    pool: str | None = None
    of: BreakerScope
    #: The tenant or the lane; None: the pool itself.
    name: str | None = None
    until_ms: Millis


#: What operators and probes report of the fleet.
Mark = ExhaustedMark | DrainMark | QuotaRow | BreakerMark
