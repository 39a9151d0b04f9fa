"""An Apache Kafka with encrypted listeners, client certificates, users and ACLs, beside its plain one for itself.

Its own user and certificate may do everything; `PART_USERS` may do only what a test grants them.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from streams.access.rights import PARTS
from streams.host import HOST, free_port
from streams.local.kafka import ApacheKafka, fetch_kafka_jars, find_java
from tests.support.certificates import DAY, Authority

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from streams.access.rights import Grant

USER = "router"
PASSWORD = "Correct-Horse,7"
#: By the part of slotwise that logs in so, by PLAIN and the same password.
PART_USERS = {part: f"slotwise-{part}" for part in PARTS}


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
        lines["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        lines["allow.everyone.if.no.acl.found"] = "false"
        # The plain listener is the broker's own way to itself.
        lines["super.users"] = f"User:ANONYMOUS;User:{USER};User:CN=client"
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
                users = " ".join(f'user_{name}="{PASSWORD}"' for name in (USER, *PART_USERS.values()))
                plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
                lines[f"{prefix}scram-sha-256.sasl.jaas.config"] = scram
                lines[f"{prefix}scram-sha-512.sasl.jaas.config"] = scram
                lines[f"{prefix}plain.sasl.jaas.config"] = plain
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def grant(self, grants: Iterable[Grant]) -> None:
        """Give principals their rights, and nothing else."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            made = admin.create_acls(
                [
                    ACL(
                        principal=one.principal,
                        host="*",
                        operation=ACLOperation[operation],
                        permission_type=ACLPermissionType.ALLOW,
                        resource_pattern=ResourcePattern(
                            ResourceType[one.right.resource.upper()],
                            one.right.name,
                            ACLResourcePatternType.PREFIXED if one.right.prefixed else ACLResourcePatternType.LITERAL,
                        ),
                    )
                    for one in grants
                    for operation in one.right.operations
                ]
            )
        finally:
            admin.close()
        assert not made["failed"], made["failed"]

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
