"""What we remember: plain objects that change only by a step, and that know no clock, no network and no randomness."""
