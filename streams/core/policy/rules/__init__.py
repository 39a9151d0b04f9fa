"""One gate a file: its thresholds, its check, its reason sentence.

A gate says of one model whether this task may use it, or why not. They are asked in the order of
`vocabulary.GATES`; the first that refuses is the model's verdict and stays in the decision.
"""
