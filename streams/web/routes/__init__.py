"""The routes of the HTTP API, one noun a file; those of operators are added where tokens are."""

from __future__ import annotations

from streams.web.routes import decisions, events, fleet, health, lag, recommendation, slots, stats, tasks

ROUTERS = tuple(one.router for one in (health, tasks, recommendation, slots, decisions, fleet, lag, stats, events))
