"""The bundled sample: a slice of recorded agent calls, and a fleet that plays it."""
