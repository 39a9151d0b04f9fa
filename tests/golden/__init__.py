"""Golden histories: what the rules say, told by example."""
