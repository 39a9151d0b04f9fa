"""One machine: `slotwise up` with its broker, database, processes and board."""
