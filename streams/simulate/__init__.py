"""A fleet in virtual time: the same arrivals under the real router or under a baseline, without a clock or a network.

`trace` holds recorded arrivals, `job` makes tasks of them, `fleet` the slots, `world` plays jobs on a fleet under a
`Scheduler`, and `run_stats` says what the run was worth. `slotwise` is the router as a scheduler; `baselines` names the
others. Every function is a function of its arguments: where numbers are drawn, the generator is one of them.
"""
