"""The option `--partition` of commands that read journals: which of the recorded partitions are meant."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from streams.settings import Settings

Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", min=0, help="Only this partition; may be given again. Default: all."),
]


def chosen(settings: Settings, recording: str | None, wanted: Collection[int]) -> list[int]:
    """Return the partitions that are wanted, in order; none named: all that are recorded, on the topics or in a file.

    Raises:
        RecordingError: the recording cannot be read.
    """
    from streams.operate.verifying import partitions_in  # noqa: PLC0415 - brings the Kafka client along

    count, recorded = partitions_in(settings, recording)
    partitions = sorted(set(wanted)) or list(recorded)
    if partitions[-1] >= count:
        raise typer.BadParameter(f"there are partitions 0 to {count - 1}.", param_hint="--partition")
    return partitions
