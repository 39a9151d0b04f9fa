"""Look-up, never truth: indexes over the rows of `state/`, so that deciding never scans. They can be rebuilt."""
