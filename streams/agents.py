"""The Faust agents, a few lines each. They never raise: Faust skips the event of an agent that does."""

from __future__ import annotations

from typing import Any

from streams.kafka.transport import Batches, topic_index
from streams.partition.assignment import Assignment
from streams.tables import FLUSH_S, Tables
from streams.topic_names import Names


def add_agents(app: Any, names: Names, assignment: Assignment, tables: Tables) -> None:
    """Add the agents to the app."""
    inputs = app.topic(*names.inputs, schema=Batches())
    journal = app.topic(names.journal, schema=Batches())
    # Found once: the agent runs for every batch.
    topics = {name: topic_index(names, name) for name in names.inputs}

    @app.agent(inputs, name="router")  # type: ignore[untyped-decorator]
    async def router(batches: Any) -> None:
        """Hand each batch of one input partition to its worker, which acks it when it is journaled."""
        async for event in batches.noack().events():
            message = event.message
            assignment.take(message.generation_id, message.partition, topics[message.topic], event.value, event.ack)

    @app.agent(journal, name="projections")  # type: ignore[untyped-decorator]
    async def projections(batches: Any) -> None:
        """Gather journal records for the tables."""
        async for event in batches.events():
            await tables.gather(event.message.partition, event.value)

    @app.timer(interval=FLUSH_S)  # type: ignore[untyped-decorator]
    async def flush() -> None:
        """Project the gathered records."""
        await tables.flush()
