"""Truth: the rows of a partition, plain objects that change only by an applied step."""
