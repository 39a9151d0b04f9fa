"""Writes: followers of the journal that keep it for people, in Postgres and as JSON lines."""
