"""Reads a TOML document into frozen structs, and reports every mistake.

An unknown key is reported with the nearest known one, a wrong value with what is allowed. The code does not depend on
the document's subject.
"""

from __future__ import annotations

import datetime as dt
import difflib
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T", bound=Struct)

#: Most characters of a sentence, and of a value that it repeats; a file may hold anything.
_SENTENCE_CHARS_MAX: Final = 400
_VALUE_CHARS_MAX: Final = 80


class RulebookError(Exception):
    """A catalogue or policy cannot be used. `problems` has one sentence for each mistake, with file and key.

    The sentences are short and can be printed and stored, whatever the file holds.
    """

    #: A mistake in a file (streams/errors.py).
    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = [_printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def read(text: str, type_: type[T], file: str, *, renew: Callable[[dict[str, Any]], None] | None = None) -> T:
    """Return the document as a `type_`; `renew` changes what was read before it is looked at.

    Raises:
        RulebookError: with all mistakes of the document.
    """
    raw = parse(text, file)
    if renew is not None:
        renew(raw)
    problems: list[str] = []
    _walk(raw, msgspec.inspect.type_info(type_), file, "", problems)
    if problems:
        raise RulebookError(problems)
    return msgspec.convert(raw, type_, strict=True)


def parse(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        RulebookError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        why = "values are nested too deep."
    except ValueError as error:  # also a number of more digits than Python reads
        why = str(error)
    raise RulebookError([f"{file}: not readable as TOML: {why}"])


def nearest(word: str, known: Any) -> str:
    """Return ` Did you mean X?` for the known word nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word[:_VALUE_CHARS_MAX], [str(k) for k in known], n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _walk(value: Any, info: msgspec.inspect.Type, file: str, path: str, problems: list[str]) -> None:
    where = f"{file}: {path or 'the document'}"
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.StructType() | msgspec.inspect.DictType() if not isinstance(value, dict):
            problems.append(f"{where}: a table is expected.")
        case msgspec.inspect.StructType():
            _walk_fields(value, info, file, path, problems)
        case msgspec.inspect.DictType():
            for key, inner in value.items():
                if isinstance(info.key_type, msgspec.inspect.LiteralType) and key not in info.key_type.values:
                    problems.append(f"{where}: {key} is no known key.{nearest(key, info.key_type.values)}")
                else:
                    _leaf(key, info.key_type, f"{where}: the key", problems)
                    _walk(inner, info.value_type, file, f"{path}.{key}", problems)
        case msgspec.inspect.VarTupleType() if not isinstance(value, list):
            problems.append(f"{where}: a list is expected.")
        case msgspec.inspect.VarTupleType():
            if len(value) < (info.min_length or 0):
                problems.append(f"{where}: at least {info.min_length} must stand there.")
            if info.max_length is not None and len(value) > info.max_length:
                problems.append(f"{where}: {len(value)} stand there, and {info.max_length} may.")
            for i, inner in enumerate(value):
                id_ = inner.get("id") if isinstance(inner, dict) else None
                name = id_ if isinstance(id_, str) else i + 1
                _walk(inner, info.item_type, file, f"{path}[{name}]", problems)
        case _:
            _leaf(value, info, where, problems)


def _walk_fields(
    table: dict[str, Any], info: msgspec.inspect.StructType, file: str, path: str, problems: list[str]
) -> None:
    where = f"{file}: {path or 'the document'}"
    fields = {field.encode_name: field for field in info.fields}
    for key, inner in table.items():
        if key not in fields:
            problems.append(f"{where}: {key} is no known key.{nearest(key, fields)}")
        else:
            _walk(inner, fields[key].type, file, f"{path}.{key}" if path else key, problems)
    problems.extend(f"{where}: {key} is missing." for key, f in fields.items() if f.required and key not in table)


def _leaf(value: Any, info: msgspec.inspect.Type, where: str, problems: list[str]) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        problems.append(f"{where}: a number of that size cannot be used: TOML's have at most 64 bits.")
        return
    try:
        msgspec.convert(value, _python_type(info), strict=True)
    except msgspec.ValidationError as error:
        known = [word for kind in getattr(info, "types", (info,)) for word in getattr(kind, "values", ())]
        near = nearest(value, known) if isinstance(value, str) else ""
        problems.append(f"{where}: {_shown(value)} cannot be used: {error}.{near}")


def _shown(value: Any) -> str:
    """Return a value as a sentence repeats it: a word in quotes, a number, or what kind of thing it is."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(value) if len(repr(value)) <= _VALUE_CHARS_MAX else f"{repr(value)[:_VALUE_CHARS_MAX]}..."


def _printable(text: str) -> str:
    """Return a sentence without characters that act on a terminal or that no database takes, and not too long."""
    short = text if len(text) <= _SENTENCE_CHARS_MAX else f"{text[:_SENTENCE_CHARS_MAX]}..."
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in short)


def _python_type(info: msgspec.inspect.Type) -> Any:
    """Return the annotation behind an inspected leaf type, with its bounds."""
    match info:
        case msgspec.inspect.UnionType():
            kinds = [_python_type(inner) for inner in info.types]
            result = kinds[0]
            for kind in kinds[1:]:
                result = result | kind
            return result
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.LiteralType():
            return Literal[tuple(info.values)]
        case msgspec.inspect.BoolType():
            return bool
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            kind = int if isinstance(info, msgspec.inspect.IntType) else float
            return _bounded(kind, ge=info.ge, gt=info.gt, le=info.le, lt=info.lt)
        case msgspec.inspect.StrType():
            return _bounded(str, pattern=info.pattern, min_length=info.min_length, max_length=info.max_length)
        case msgspec.inspect.DateType():
            return dt.date
        case _:
            return Any


def _bounded(kind: type, **bounds: Any) -> Any:
    return Annotated[kind, msgspec.Meta(**{k: v for k, v in bounds.items() if v is not None})]
