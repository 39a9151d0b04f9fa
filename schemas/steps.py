"""Steps of the journal as bytes: the version comes first. An earlier version is upgraded, an unknown one refused."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from schemas.decision import STEP_VERSION, Step
from schemas.refusals import clip
from schemas.upgrade import upgrade_step

#: The earlier version that `upgrade` knows.
_EARLIER: Final = 1

_Part = TypeVar("_Part", bound=Struct)

_ENCODER: Final = msgspec.json.Encoder()
_STEPS: Final = msgspec.json.Decoder(Step)
#: Fields with their default value are not written; the version always is, because a reader must see it first.
_STEP_START: Final = b'{"v":%d,' % STEP_VERSION


class StepError(Exception):
    """A record of the journal is no step that this version can read; the message says why."""


class _Versioned(Struct, frozen=True):
    v: int


def encode_step(step: Step) -> bytes:
    """Write a step as the value of a journal record; its version comes first."""
    body = _ENCODER.encode(step)
    return body if step.v != STEP_VERSION else _STEP_START + body[1:]


def decode_step(raw: bytes) -> Step:
    """Read the value of a journal record, of this version or an earlier one; the step has this version.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    return decode_step_by(_STEPS, raw)


def decode_step_by(decoder: msgspec.json.Decoder[_Part], raw: bytes) -> _Part:
    """Read a part of a step: the fields of the decoder's struct. The others are skipped, which is quicker.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    try:
        return decoder.decode(raw if raw.startswith(_STEP_START) else present_step(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StepError(
            f"This journal record is no step ({clip(ascii(str(error))[1:-1])}). "
            "Something other than slotwise wrote to the journal's topic, or the record is damaged."
        ) from None


def present_step(raw: bytes) -> bytes:
    """Bring a journal record to the present version; one of that version is returned as it is.

    Raises:
        StepError: the record has a version that is neither this one nor an earlier one.
        msgspec.DecodeError: the record is no step.
    """
    version = msgspec.json.decode(raw, type=_Versioned).v
    if version == STEP_VERSION:
        return raw
    if version == _EARLIER:
        return upgrade_step(raw)
    raise StepError(
        f"This step has version {version}; this slotwise reads versions {_EARLIER} to {STEP_VERSION}. "
        "Read the journal with the slotwise that wrote it, or a newer one."
    )
