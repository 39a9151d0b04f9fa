"""Golden histories: the rules, by example."""
