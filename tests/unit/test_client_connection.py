"""A client finds its installation as the commands do: by address, by the environment, or by a running `slotwise up`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slotwise import AsyncClient, Client, SlotwiseError
from streams import up_file
from streams.client.kafka_wire import KafkaWire
from streams.host import free_port
from streams.settings import Settings, SettingsError
from streams.up_file import UpFile


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin in an empty folder, without settings."""
    for name in [name for name in os.environ if name.startswith("SLOTWISE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def running(broker: str, **settings: object) -> None:
    """A `slotwise up` runs in this folder: this process stands for it."""
    folder = Path(Settings().data_dir)
    folder.mkdir()
    content = UpFile(broker=broker, database="postgresql://", web="http://127.0.0.1:1", pids={"up": os.getpid()},
                     settings=settings)  # fmt: skip
    up_file.write(folder, content)


def settings_of(bootstrap_servers: str | None = None, **settings: object) -> Settings:
    """The settings of a client's connections."""
    wire = AsyncClient(bootstrap_servers=bootstrap_servers, **settings).connect()
    assert isinstance(wire, KafkaWire)
    return wire._settings


def test_an_address_is_taken_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names another installation than the one that runs here, whose settings do not count for it."""
    running("127.0.0.1:1111", topic_prefix="here.")
    monkeypatch.setenv("SLOTWISE_BROKER", "env:2222")
    found = settings_of("given:3333", kafka_security="SSL")
    assert (found.broker, found.kafka_security, found.topic_prefix) == ("given:3333", "SSL", "")


def test_the_environment_is_taken_before_what_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the commands."""
    running("127.0.0.1:1111", topic_prefix="here.")
    monkeypatch.setenv("SLOTWISE_BROKER", "env:2222")
    assert (settings_of().broker, settings_of().topic_prefix) == ("env:2222", "")


def test_what_runs_here_is_found_with_its_settings() -> None:
    """Address and prefix; without any it is the default address."""
    assert settings_of().broker == Settings().broker
    running("127.0.0.1:1111", topic_prefix="here.")
    assert (settings_of().broker, settings_of().topic_prefix) == ("127.0.0.1:1111", "here.")


def test_a_setting_that_there_is_none_of_names_the_nearest() -> None:
    """Where the client is made."""
    with pytest.raises(SettingsError, match="topic_prefx is no setting of slotwise; did you mean topic_prefix"):
        AsyncClient(topic_prefx="a.")
    with pytest.raises(SettingsError, match="SLOTWISE_KAFKA_CA_FILE is given"):
        Client(bootstrap_servers="127.0.0.1:1", kafka_ca_file="ca.pem").start()


def test_a_broker_that_does_not_answer_is_one_sentence() -> None:
    """With its address, and what to do."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(SlotwiseError, match=f"No broker answers at {address}: start it, or name where it listens"):
        Client(bootstrap_servers=address).start()


def test_a_client_that_is_not_connected_says_how_it_is() -> None:
    """Instead of an error about something inside."""
    with pytest.raises(RuntimeError, match=r"not connected: use it within its `with` block, or call start\(\)"):
        Client(bootstrap_servers="127.0.0.1:1").submit(pool="main")
