"""Steps made again from their recorded inputs, by the same `Router.handle`: `inputs` reads them, `verify` compares.

Knows no broker, no clock and no plug-in: what plug-ins answered stands in the journal.
"""
