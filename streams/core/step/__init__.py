"""One step: what inputs change, who gets which slot, and the decisions that say so."""
