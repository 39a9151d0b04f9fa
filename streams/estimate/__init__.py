"""What was never tried, estimated from what was recorded: service times, success, and the worth of another policy.

Every estimate states its error. Where the record does not support one, the answer is a sentence that says what is
lacking. Pure: the same observations in the same order give the same numbers.
"""
