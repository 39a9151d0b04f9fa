"""Texts in the query of an address; a field of a form that was left empty is as if it were not there."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import BeforeValidator, StringConstraints

ID: Final = r"^[A-Za-z0-9._:-]{1,128}$"


def _none_if_empty(value: Any) -> Any:
    return value or None


EMPTY: Final = BeforeValidator(_none_if_empty)
# Bounds are those of the text: put beside the union, pydantic would measure None.
OptionalText: TypeAlias = Annotated[Annotated[str, StringConstraints(max_length=200)] | None, EMPTY]
OptionalId: TypeAlias = Annotated[Annotated[str, StringConstraints(pattern=ID)] | None, EMPTY]
