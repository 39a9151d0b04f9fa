"""Writes a recording of an installation: steps and inputs of its partitions, from the topics into a directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path

from streams.core.policy.rulebook import Rulebook
from streams.operate.verifying import sources
from streams.replay.export import Exporting, new_directory, write_manifest
from streams.replay.recorded_files import VERSION, Manifest, RecordedPartition
from streams.replay.span import Span
from streams.settings import Settings


async def record(
    settings: Settings,
    rulebook: Rulebook,
    partitions: Sequence[int],
    span: Span,
    directory: Path,
    *,
    compressed: bool = True,
    progress: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Write what the topics hold of these partitions; `progress` gets the number of steps so far.

    Raises:
        RecordingError: the directory is not empty.
        NoBegin, ReadingError: a journal does not hold the span.
        KafkaError: the broker does not answer.
    """
    recorded: dict[str, RecordedPartition] = {}
    new_directory(directory)
    async with sources(settings) as source:
        for partition in partitions:
            before = sum(one.steps for one in recorded.values())
            export = Exporting(source(partition), rulebook, span, directory, compressed=compressed)
            async with aclosing(export.run()) as running:
                async for steps in running:
                    progress(before + steps)
            if export.recorded is not None:
                recorded[str(partition)] = export.recorded
    manifest = Manifest(
        recording=VERSION, slotwise=version("slotwise"), partitions=settings.partitions, recorded=recorded
    )
    write_manifest(directory, manifest)
    return manifest
