"""The OpenAPI description: FastAPI's, with the bodies of the wire contract and the problem in it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from schemas.json_schema import json_schema
from schemas.vocabulary import FLEET_CONTROL, SLOT_FREED, TASK_PENDING, TASK_ROUTED
from streams.web.problem import MEDIA_TYPE

_REFERENCE: Final = "#/components/schemas/"
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "correlation_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, with which field, and what to do."},
        "correlation_id": {"type": "string", "description": "Also in the header X-Correlation-Id and in the log."},
    },
}
#: Answers that any route may give, each a problem.
_PROBLEMS: Final = {
    "400": "The request cannot be read.",
    "401": "No token, or none that is known.",
    "403": "The token does not have the role.",
    "404": "There is no such thing.",
    "408": "The body did not come in time.",
    "409": "The order is not in force everywhere.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "421": "The server is not called so.",
    "422": "The router would refuse it, or a parameter is out of range.",
    "429": "More requests than one caller may send; Retry-After says when the next may come.",
    "503": "The broker, the journal or the audit does not answer.",
}


def body(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a route's description says of its body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def of(name: str, *, optional: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the schema of an event of the wire contract, with fields that this interface fills in or leaves out."""
    schema = _components()[name]
    return {
        **schema,
        "required": [field for field in schema.get("required", ()) if field not in (*optional, *without)],
        "properties": {field: one for field, one in schema["properties"].items() if field not in without},
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of an application."""
    whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = whole.setdefault("components", {})
    components["schemas"] = {**_components(), "Problem": _PROBLEM}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    components["responses"] = {
        status: {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REFERENCE}Problem"}}}}
        for status, text in _PROBLEMS.items()
    }
    for path in whole["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            for status in _PROBLEMS:
                operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{status}"})
    return whole


@cache
def _components() -> Mapping[str, Any]:
    """Return every struct of the wire contract that a body or an answer has, by name; made once, as it is slow."""
    found: dict[str, Any] = {}
    for topic in (TASK_PENDING, SLOT_FREED, FLEET_CONTROL, TASK_ROUTED):
        found |= json_schema(topic)["$defs"]
    renamed: dict[str, Any] = _renamed(found)
    return renamed


def _renamed(node: Any) -> Any:
    """Point every reference at the place where OpenAPI has the definitions."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", _REFERENCE) if key == "$ref" and isinstance(value, str) else _renamed(value)
            for key, value in node.items()
        }
    return [_renamed(one) for one in node] if isinstance(node, list) else node
