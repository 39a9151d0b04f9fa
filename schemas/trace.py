"""The W3C trace context of a record: read from its headers, and dropped where it is not valid."""

from __future__ import annotations

import re
from typing import Final

from schemas.record import Headers

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{1,200})?"
)
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}")
_TRACEPARENT_LENGTH: Final = 55
_TRACESTATE_MEMBERS_MAX: Final = 32


def trace_of(headers: Headers) -> tuple[str | None, str | None]:
    """Return the W3C trace context of a record: (traceparent, tracestate), None for what is absent or invalid.

    A later version of the format is read as version 00, as W3C asks; without a valid traceparent a tracestate
    means nothing.
    """
    parent = state = None
    for name, content in headers:
        if name == "traceparent":
            parent = content
        elif name == "tracestate":
            state = content
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return None, None
    if parent.startswith(b"00-"):
        if len(parent) != _TRACEPARENT_LENGTH:
            return None, None
        traceparent = parent.decode()
    else:
        traceparent = "00" + parent[2:_TRACEPARENT_LENGTH].decode()
    return traceparent, _tracestate(state)


def _tracestate(state: bytes | None) -> str | None:
    if state is None or not _TRACESTATE.fullmatch(state):
        return None
    members = [member.strip() for member in state.split(b",")]
    if len(members) > _TRACESTATE_MEMBERS_MAX or any(member and b"=" not in member for member in members):
        return None
    return state.decode()
