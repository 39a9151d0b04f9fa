"""What needs a look, as sentences, and whether it passes by itself or needs a person. Pure values."""

from __future__ import annotations

from msgspec import Struct


class Attention(Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be."""

    says: str
    #: Whether it stays so until a person acts; else it ends by itself, at the time that the sentence names.
    needs_person: bool = True
