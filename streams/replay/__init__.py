"""Steps made again from their recorded inputs, by the same `Router.handle`: `inputs` reads them, `verify` compares.

It uses no broker, no clock and no plug-in: the answers of plug-ins are in the journal.
"""
