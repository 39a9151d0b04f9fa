"""The sink's own pages, read-only: `/health/live`, `/health/ready` and `/metrics`, as the worker has them.

They are answered by a thread of their own, so that a sink whose store is slow still says so.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from streams.errors import UNREACHABLE, SlotwiseError
from streams.sinks.lag import SinkStatus

#: A sink whose oldest unwritten step is older is not ready.
LAG_S_MAX: Final = 30.0


class SinkPagesError(SlotwiseError):
    """The pages cannot listen on their port; the message names it."""

    exit_code = UNREACHABLE


def readiness(status: SinkStatus) -> dict[str, Any]:
    """Return the content of the readiness page."""
    return {
        "ready": status.trouble is None and status.lag_s < LAG_S_MAX,
        "trouble": status.trouble,
        "lag_s": round(status.lag_s, 3),
        "lag_records": status.lag_records,
        "partitions": {str(number): one.seq for number, one in status.partitions.items()},
    }


class SinkMetrics(Collector):
    """The status of a sink as metrics, made when they are asked for."""

    def __init__(self, status: Callable[[], SinkStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield each metric; names and labels are those of docs/metrics.md."""
        status = self._status()
        records = GaugeMetricFamily(
            "slotwise_sink_lag_records", "Journal records that are not written yet.", labels=["partition"]
        )
        seconds = GaugeMetricFamily(
            "slotwise_sink_lag_seconds", "Age of the oldest record that is not written yet.", labels=["partition"]
        )
        for number, one in status.partitions.items():
            records.add_metric([str(number)], one.lag_records)
            seconds.add_metric([str(number)], one.lag_s)
        yield records
        yield seconds
        for name, help_, value in (
            ("slotwise_sink_steps", "Steps written.", status.steps),
            ("slotwise_sink_decisions", "Decisions written.", status.decisions),
            ("slotwise_sink_duplicates", "Records whose number was taken.", status.duplicates),
            ("slotwise_sink_unreadable", "Damaged records that were passed over.", status.unreadable),
            ("slotwise_sink_troubles", "Outages of the broker or the store.", status.troubles),
        ):
            yield CounterMetricFamily(name, help_, value=value)
        yield GaugeMetricFamily(
            "slotwise_sink_trouble_seconds", "Length of the present outage; 0: none.", value=status.trouble_s
        )


@contextlib.contextmanager
def serving(
    host: str, port: int, status: Callable[[], SinkStatus], *, metrics: Collector | None = None
) -> Iterator[str]:
    """Serve the pages while inside; gives their address. `metrics`: instead of those of a sink.

    Raises:
        SinkPagesError: the port cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(metrics or SinkMetrics(status))

    class Pages(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            """Answer with a page, or 404."""
            code, kind = HTTPStatus.OK, "application/json"
            match self.path.partition("?")[0]:
                case "/health/live":
                    body = b'{"live": true}'
                case "/health/ready":
                    state = readiness(status())
                    code = HTTPStatus.OK if state["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
                    body = json.dumps(state).encode()
                case "/metrics":
                    body, kind = generate_latest(registry), CONTENT_TYPE_LATEST
                case _:
                    code, body = HTTPStatus.NOT_FOUND, b'{"error": "Ask for /health/live, /health/ready or /metrics."}'
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log no request."""

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except OSError as error:
        raise SinkPagesError(
            f"The pages cannot listen on {host}:{port} ({error.strerror}): choose another port with "
            f"SLOTWISE_{'SHADOW' if metrics else 'SINK'}_WEB_PORT, or 0 for no pages."
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="sink pages", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
