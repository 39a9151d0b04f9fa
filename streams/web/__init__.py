"""The HTTP interface: an application of routes and pages, each file one noun; it decides nothing and stores nothing.

What is read comes from the journal, followed in memory, or from the audit; what is written is an event on a topic, or
an operator's order by the code of the command line. Pages for people are in `pages/`.
"""
