"""One connection to Postgres that is replaced after every failure, with failures as sentences."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors

from streams.database.connection import sentence
from streams.database.sql import QUERIES
from streams.sinks.ports import RetryableError, SinkPosition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

Answer = TypeVar("Answer")


class GuardedConnection:
    """Runs one operation after the other."""

    def __init__(
        self, connect: Callable[[], Awaitable[AsyncConnection[TupleRow]]], *, name: str, transaction_s_max: float
    ) -> None:
        """`name` says in messages which database this is."""
        self._connect = connect
        self._name = name
        self._transaction_s_max = transaction_s_max
        self._connection: AsyncConnection[TupleRow] | None = None

    async def run(self, work: Callable[[AsyncConnection[TupleRow]], Awaitable[Answer]]) -> Answer:
        """Run an operation on the connection, which is closed after a failure.

        Raises:
            UniqueViolation: as it is; what it means depends on the table.
            RetryableError: any other failure, as a sentence.
        """
        try:
            # Postgres bounds its statements, TCP its silence; a frozen server triggers neither.
            async with asyncio.timeout(self._transaction_s_max):
                if self._connection is None:
                    self._connection = await self._connect()
                return await work(self._connection)
        except BaseException as error:
            await self.close()
            match error:
                case errors.UniqueViolation():
                    raise
                case errors.UndefinedTable() | errors.UndefinedFunction() | errors.UndefinedColumn():
                    why = f"lacks what this slotwise needs ({sentence(error)}): run `slotwise db migrate`"
                case errors.InsufficientPrivilege():
                    why = f"refuses us ({sentence(error)}): GRANT slotwise_write to this login"
                case TimeoutError():
                    why = f"did not answer within {self._transaction_s_max:.0f} s"
                case psycopg.Error() | OSError():
                    why = f"failed ({sentence(error)})"
                case _:
                    raise
            raise RetryableError(f"{self._name} {why}") from error

    async def positions(self, query: str, named: Mapping[str, Any]) -> dict[int, SinkPosition]:
        """Return what a query of positions finds: partition, number, offset, hashes of record and chain, journal id.

        Raises:
            RetryableError: as `run`.
        """

        async def ask(connection: AsyncConnection[TupleRow]) -> dict[int, SinkPosition]:
            cursor = await connection.execute(QUERIES[query], named)
            return {partition: SinkPosition(*position) async for partition, *position in cursor}

        return await self.run(ask)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
