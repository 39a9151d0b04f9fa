"""`make bench`: what the router costs, beside what it is compared with, in one run on the same broker.

`__main__.py` is the command, one file `a_` to `f_` a measurement, `sides/` the programs that are measured, each a
process of its own. `workload.py` says what is sent, `race.py` how two sides are compared, `budget.toml` the goals.
"""
