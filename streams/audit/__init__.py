"""The auditor: checks that journal, topics and audit database agree, and that the journal keeps its promises.

`journal` reads journal records as another language would, JSON only, without a line of the router's code; `ledgers` is
its part for money. `agreement` names numbers that must be equal, `stored` asks Postgres, and `installation` reads the
real parts and makes a `report`.
"""
