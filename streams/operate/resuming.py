"""Where verifying had got to, in a directory: the state and the place of each partition, so that another run goes on.

A file is written beside the one before and takes its place in one go, so that a crash leaves one or the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.partition.ports import JournalPosition
from streams.replay.begin import Begin
from streams.replay.partition_run import Verified
from streams.replay.span import Span
from streams.whole_file import write_whole

VERSION: Final = 1


class ResumeError(SlotwiseError):
    """A run cannot go on from what a directory holds; the message says why and what to do."""

    exit_code = MISTAKE


class _Asked(Struct, frozen=True, kw_only=True):
    """What two runs must have in common."""

    since_seq: int
    since_ms: int
    policy: str
    catalog: str


class _Saved(Struct, frozen=True, kw_only=True):
    v: int
    asked: _Asked
    seq: int
    offset: int
    chunks: tuple[bytes, ...]
    found: Verified


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_SAVED: Final = msgspec.msgpack.Decoder(_Saved)


class Resuming:
    """The directory of one run."""

    def __init__(self, directory: Path, rulebook: Rulebook, span: Span) -> None:
        """A run by other rules, or with another begin, cannot go on there; another end it may have."""
        self._directory = directory
        self._rulebook = rulebook
        self._asked = _Asked(
            since_seq=span.since_seq,
            since_ms=span.since_ms,
            policy=rulebook.policy_hash,
            catalog=rulebook.catalog_hash,
        )

    def load(self, partition: int) -> tuple[Begin, Verified] | None:
        """Return the state and what had come of it; None: nothing was saved.

        Raises:
            ResumeError: it is of another run, or cannot be read.
        """
        file = self._file(partition)
        try:
            saved = _SAVED.decode(file.read_bytes())
            if saved.v != VERSION:
                raise ResumeError(f"{file} is of another version of slotwise: name another directory with --resume.")
            router = Router.restore(partition, self._rulebook, saved.chunks)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise ResumeError(f"{file} cannot be read ({error}): name another directory with --resume.") from error
        if saved.asked != self._asked:
            raise ResumeError(
                f"{file} is of a run with another --from, policy or catalogue: give the same ones, or name another "
                "directory with --resume."
            )
        saved.found.stopped = False
        saved.found.difference = saved.found.problem = None
        return Begin(router, JournalPosition(saved.offset, saved.seq)), saved.found

    def save(self, state: Begin, found: Verified) -> None:
        """Keep them in the place of what was saved before."""
        self._directory.mkdir(parents=True, exist_ok=True)
        saved = _Saved(
            v=VERSION,
            asked=self._asked,
            seq=state.position.seq,
            offset=state.position.offset,
            chunks=tuple(state.router.snapshot()),
            found=found,
        )
        write_whole(self._file(found.partition), _ENCODE(saved), durable=True)

    def _file(self, partition: int) -> Path:
        return self._directory / f"partition-{partition}.state"
