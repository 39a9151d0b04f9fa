"""Brokers for tests: Tansu from its package always, Apache Kafka where there is Java; one of each a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streams.local.kafka import ApacheKafka
from streams.local.process import MissingPart
from streams.local.tansu import EmbeddedBroker
from tests.support.optional_parts import skip_without
from tests.support.secure_kafka import SecureKafka

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def tansu_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """Give the Tansu broker of this run."""
    with EmbeddedBroker(log_file=tmp_path_factory.mktemp("tansu") / "tansu.log") as broker:
        yield broker


@pytest.fixture
def tansu(tansu_broker: EmbeddedBroker) -> str:
    """Give the address of Tansu, started again if a test before has ended it."""
    return tansu_broker.start()


@pytest.fixture(scope="session")
def apache_kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Give the Apache Kafka of this run."""
    kafka = ApacheKafka(tmp_path_factory.mktemp("kafka"))
    try:
        kafka.start()
    except MissingPart as missing:
        skip_without("kafka", str(missing))
    with kafka:
        yield kafka


@pytest.fixture
def apache_kafka(apache_kafka_server: ApacheKafka) -> ApacheKafka:
    """Give a running Apache Kafka, started again if a test before has ended it."""
    apache_kafka_server.start()
    return apache_kafka_server


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """Give an Apache Kafka with TLS, users and client certificates."""
    kafka = SecureKafka(tmp_path_factory.mktemp("secure-kafka"))
    try:
        kafka.start()
    except MissingPart as missing:
        skip_without("kafka", str(missing))
    with kafka:
        kafka.add_users()
        yield kafka


@pytest.fixture(params=["tansu_broker", pytest.param("apache_kafka_server", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> EmbeddedBroker | ApacheKafka:
    """Give each kind of broker in turn, running; `durable` says whether its topics outlive a restart or a kill."""
    part: EmbeddedBroker | ApacheKafka = request.getfixturevalue(request.param)
    part.start()
    return part
