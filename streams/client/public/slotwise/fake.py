"""Clients over an installation in memory, for unit tests: the real router, without a broker."""

from streams.client.fake import AsyncClient, Client, DeadLetter

__all__ = ["AsyncClient", "Client", "DeadLetter"]
