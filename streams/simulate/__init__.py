"""Work that is not done but looks real: a slice of recorded agent calls, and a fleet that pretends to do it."""
