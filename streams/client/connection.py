"""Where an installation is: by address, by environment, or the `slotwise up` that runs here, as commands find it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from streams.client.kafka_wire import KafkaWire
from streams.client.wire import Wire
from streams.settings import from_environment, load
from streams.up_file import joined


def connection(bootstrap_servers: str | None, settings: Mapping[str, object]) -> Callable[[], Wire]:
    """Return what makes connections; settings that are not given are those of the environment.

    Raises:
        SettingsError: there is no such setting, or its value cannot be used.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if bootstrap_servers is not None:
        given["broker"] = bootstrap_servers
    found = load(os.environ, given)
    stated = {*from_environment(os.environ), *given}
    if "broker" not in stated:
        found = joined(found, stated)
    return lambda: KafkaWire(found)
