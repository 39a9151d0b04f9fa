"""The audit database: connections, migrations and named SQL. `streams/sinks/` writes it, `streams/views/` reads it."""
