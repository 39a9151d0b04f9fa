"""The state: the rows of a partition, plain objects that only an applied step changes."""
