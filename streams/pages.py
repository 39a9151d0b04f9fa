"""The worker's own pages, read-only and without event content: health, metrics, and the two tables as JSON."""

from __future__ import annotations

from typing import Any, Final

from streams import metrics
from streams.clock import SystemClock
from streams.core.router import Router
from streams.views import gauges, lag_gauges

#: An input that waits longer for the journal makes the worker not ready.
UNJOURNALED_S_MAX: Final = 30.0
_TEXT: Final = "text/plain"


def add_pages(app: Any) -> None:
    """Put the pages on the app's web server."""

    @app.page("/health/live")  # type: ignore[untyped-decorator]
    async def live(web: Any, _request: Any) -> Any:
        """The event loop turns; a broker or database that is away must not restart all workers."""
        return web.json({"live": True})

    @app.page("/health/ready")  # type: ignore[untyped-decorator]
    async def ready(web: Any, _request: Any) -> Any:
        """Every assigned partition is recovered, decided on and journaled."""
        state = readiness(app)
        return web.json(state, status=200 if state["ready"] else 503)

    @app.page("/metrics")  # type: ignore[untyped-decorator]
    async def prometheus(web: Any, _request: Any) -> Any:
        """For Prometheus."""
        workers = [worker for worker in app.assignment.workers.values() if worker.working]
        now_ms = SystemClock().now_ms()
        lag_gauges.show(workers, app.projections.offset, now_ms)
        routers = [machine for worker in workers if isinstance(machine := worker.machine, Router)]
        gauges.show(routers, now_ms)
        return web.bytes(metrics.render(), content_type=_TEXT)

    @app.page("/tables/{table}")  # type: ignore[untyped-decorator]
    async def tables(web: Any, _request: Any, table: str) -> Any:
        """The rows of this worker's partitions, and why those of a partition are no longer brought up to date."""
        await app.projections.flush()
        try:
            rows = app.projections.ask(table, SystemClock().now_ms())
        except KeyError:
            return web.json({"error": f"There is no table {table}: ask for utilisation or ev_percentiles."}, status=404)
        stopped = {str(partition): str(error) for partition, error in app.projections.stopped.items()}
        partitions = sorted(app.assignment.workers)
        return web.json({"table": table, "partitions": partitions, "stopped": stopped, "rows": rows})


def readiness(app: Any) -> dict[str, Any]:
    """Return the content of the readiness page."""
    assignment = app.assignment
    unjournaled_s = assignment.unjournaled_s_max()
    current = not app.rebalancing and assignment.generation == app.consumer_generation_id
    workers = {number: worker for number, worker in sorted(assignment.workers.items()) if worker.working}
    working = current and len(workers) == len(assignment.workers)
    return {
        "ready": working and unjournaled_s < UNJOURNALED_S_MAX,
        "partitions": {str(number): worker.health().seq for number, worker in workers.items()},
        "oldest_unjournaled_s": round(unjournaled_s, 3),
    }
