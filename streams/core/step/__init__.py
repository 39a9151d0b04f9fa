"""One step: changes by inputs, the matching of tasks with slots, and the decisions."""
