"""What routing is worth on recorded data: quality for the dollar on marked answers, waits and EV on real arrivals.

`python -m tests.bench.offline --help` says how; docs/offline.md says what came of it, and what it cannot tell.
"""
