"""`slotwise dispatch`: a ready dispatcher, which runs a command for each task that is routed to its slots.

`fleet.py` says which slots there are and what each runs; `job.py` runs one command under a keeper (`keeper.py`) and
`task_log.py` keeps what it prints; `result.py` and `presets.py` make an outcome of how it ended.
"""
