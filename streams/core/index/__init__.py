"""Indexes over the rows of `state/`, so that a decision never scans. They can be rebuilt."""
