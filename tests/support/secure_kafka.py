"""An Apache Kafka with encrypted listeners, client certificates and users, beside its plain one for itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from streams.host import HOST, free_port
from streams.local.kafka import ApacheKafka, fetch_kafka_jars, find_java
from tests.support.certificates import DAY, Authority

if TYPE_CHECKING:
    from pathlib import Path

USER = "router"
PASSWORD = "Correct-Horse,7"


class SecureKafka(ApacheKafka):
    """One node whose listeners differ in what they ask; `at` gives their addresses."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.authority = Authority(directory / "tls")
        self.client = self.authority.issue("client")
        self._broker = self.authority.issue("broker", [HOST])
        self._expired = self.authority.issue("expired", [HOST], until=-DAY)
        self._elsewhere = self.authority.issue("elsewhere", ["kafka.example"])
        #: Name of each listener, its protocol, and the certificate that it shows.
        self._listeners = {
            "SASL": ("SASL_SSL", self._broker),
            "MUTUAL": ("SSL", self._broker),
            "EXPIRED": ("SASL_SSL", self._expired),
            "ELSEWHERE": ("SASL_SSL", self._elsewhere),
            "CLEAR": ("SASL_PLAINTEXT", None),
        }
        self._ports = {name: free_port() for name in self._listeners}

    def at(self, listener: str) -> str:
        """Return the address of a listener."""
        return f"{HOST}:{self._ports[listener]}"

    def _properties(self) -> str:
        lines = dict(line.split("=", 1) for line in super()._properties().splitlines())
        added = ",".join(f"{name}://{self.at(name)}" for name in self._listeners)
        for name in ("listeners", "advertised.listeners"):
            lines[name] += f",{added}"
        lines["listener.security.protocol.map"] += "".join(f",{n}:{p}" for n, (p, _) in self._listeners.items())
        lines["inter.broker.listener.name"] = "PLAINTEXT"
        lines["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        for name, (protocol, pair) in self._listeners.items():
            prefix = f"listener.name.{name.lower()}."
            if pair is not None:
                lines[f"{prefix}ssl.keystore.type"] = lines[f"{prefix}ssl.truststore.type"] = "PEM"
                lines[f"{prefix}ssl.keystore.location"] = str(pair.both)
                lines[f"{prefix}ssl.truststore.location"] = str(self.authority.file)
                lines[f"{prefix}ssl.client.auth"] = "required" if protocol == "SSL" else "none"
            if protocol.startswith("SASL"):
                scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
                lines[f"{prefix}scram-sha-256.sasl.jaas.config"] = scram
                lines[f"{prefix}scram-sha-512.sasl.jaas.config"] = scram
                lines[f"{prefix}plain.sasl.jaas.config"] = plain
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def add_users(self) -> None:
        """Give the user its passwords, with Kafka's own tool."""
        java = str(find_java())
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            subprocess.run(
                [
                    *(java, "-cp", f"{fetch_kafka_jars()}/*", "kafka.admin.ConfigCommand"),
                    *("--bootstrap-server", self.address, "--alter", "--entity-type", "users"),
                    *("--entity-name", USER, "--add-config", f"{mechanism}=[password={PASSWORD}]"),
                ],
                check=True,
                capture_output=True,
                timeout=60,
            )
