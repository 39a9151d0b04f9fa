"""What a lane, the stream of work a task comes from, has otherwise than the rest."""

from __future__ import annotations

from msgspec import Struct

from schemas.vocabulary import Objective, Profile, Word


class LanePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lane's own settings; a task's own word still wins over strategy, objective and profile."""

    #: A shipped strategy, or the name of a plug-in's.
    strategy: Word | None = None
    objective: Objective | None = None
    profile: Profile | None = None
    #: If given, only these models, by id.
    allow_models: tuple[Word, ...] = ()
    #: Never these.
    exclude_models: tuple[Word, ...] = ()
