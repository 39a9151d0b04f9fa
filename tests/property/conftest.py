"""How hard properties are tried: long in CI, some seconds here; never against a clock, machines are shared."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

_SLOW_MACHINES = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "ci",
    max_examples=500,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=_SLOW_MACHINES,
    # The same examples for the same code: a change is judged by what it did, not by luck.
    derandomize=True,
)
settings.register_profile(
    "here", max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=_SLOW_MACHINES
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")
if os.environ.get("CI") == "true":
    # Examples also have constants of the modules that were imported before, which are others in each order of tests:
    # with none of them they really are the same for the same code. There is no setting for it.
    providers._get_local_constants = lambda: providers._local_constants
