"""Writes: followers of the journal that store its steps, in Postgres and as JSON lines."""
