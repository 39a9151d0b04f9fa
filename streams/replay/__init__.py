"""Steps made again from their recorded inputs, by the same `Router.handle`.

`source` says what recorded steps and inputs look from where they are kept, `stretches` brings them together in bounded
memory, `verify` makes the steps again and compares. It uses no broker, no clock and no plug-in: the answers of plug-ins
are in the journal.
"""
