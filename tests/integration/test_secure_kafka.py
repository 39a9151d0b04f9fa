"""Over TLS and with a login, a task is routed from end to end; and what a broker refuses is said once, in a sentence.

The commands run as programs. `secure_kafka` has a listener for each case.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.errors import FAILED, MISTAKE, UNREACHABLE
from streams.host import free_port
from tests.functional.commands import DEADLINE_S, environment, slotwise, until
from tests.support.certificates import DAY, Authority
from tests.support.secure_kafka import PASSWORD, USER, SecureKafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Way = Callable[[SecureKafka, Path], dict[str, str]]
Case = Callable[[SecureKafka, Path], tuple[dict[str, str], str]]

#: A refusal is known at once: this is for a machine that is busy with other tests.
REFUSED_S_MAX = 60.0

#: A program of a producer, with the settings of its environment.
SUBMIT_AND_WAIT = """
from slotwise import Client

with Client() as client:
    print(client.wait(client.submit(pool="main", task_id="t-1"), timeout=80).status)
"""


def login(kafka: SecureKafka, folder: Path, listener: str = "SASL", mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
    """Give the settings of a user over TLS."""
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n")
    return {
        "SLOTWISE_BROKER": kafka.at(listener),
        "SLOTWISE_KAFKA_SECURITY": "SASL_SSL",
        "SLOTWISE_KAFKA_CA_FILE": str(kafka.authority.file),
        "SLOTWISE_KAFKA_SASL_MECHANISM": mechanism,
        "SLOTWISE_KAFKA_USER": USER,
        "SLOTWISE_KAFKA_PASSWORD_FILE": str(password),
    }


def certificate(kafka: SecureKafka, _folder: Path) -> dict[str, str]:
    """Give the settings of a client with a certificate."""
    return {
        "SLOTWISE_BROKER": kafka.at("MUTUAL"),
        "SLOTWISE_KAFKA_SECURITY": "SSL",
        "SLOTWISE_KAFKA_CA_FILE": str(kafka.authority.file),
        "SLOTWISE_KAFKA_CERT_FILE": str(kafka.client.cert),
        "SLOTWISE_KAFKA_KEY_FILE": str(kafka.client.key),
    }


def in_clear(kafka: SecureKafka, folder: Path) -> dict[str, str]:
    """Give the settings of a user without TLS."""
    settings = login(kafka, folder, "CLEAR", "SCRAM-SHA-256") | {"SLOTWISE_KAFKA_SECURITY": "SASL_PLAINTEXT"}
    del settings["SLOTWISE_KAFKA_CA_FILE"]
    return settings


def plain(kafka: SecureKafka, folder: Path) -> dict[str, str]:
    """Give the settings of a user whose password itself is sent, over TLS."""
    return login(kafka, folder, mechanism="PLAIN")


@contextmanager
def running(log: Path, env: Mapping[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block; its output goes to the log."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "streams.cli", *words], env=environment(env), stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("way", [login, certificate, plain, in_clear], ids=lambda way: way.__name__)
def test_a_task_is_routed_from_end_to_end(secure_kafka: SecureKafka, tmp_path: Path, way: Way) -> None:
    """Worker, sink, dispatcher, Python client and commands, over each kind of listener; no log has the password."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    env = way(secure_kafka, tmp_path) | {
        "SLOTWISE_GROUP": unique,
        "SLOTWISE_TOPIC_PREFIX": f"{unique}.",
        "SLOTWISE_PARTITIONS": "2",
        "SLOTWISE_WEB_PORT": str(free_port()),
        "SLOTWISE_DATA_DIR": str(tmp_path / "data"),
        "SLOTWISE_REBALANCE_TIMEOUT_S": "1",
        "SLOTWISE_LOG_LEVEL": "debug",
    }
    shown = []

    def command(*words: str, stdin: str = "", code: int = 0) -> str:
        done = slotwise(*words, stdin=stdin, env=env)
        shown.append(done.stdout + done.stderr)
        assert done.returncode == code, shown[-1]
        return done.stdout

    command("topics", "create")
    journal, logs = tmp_path / "journal.jsonl", [tmp_path / f"{part}.log" for part in ("worker", "sink", "dispatch")]
    with (
        running(logs[0], env, "worker") as worker,
        running(logs[1], env, "sink", "--to", str(journal)) as sink,
        running(logs[2], env, "dispatch", "--slot", "haiku-1=haiku", "--exec", "true") as dispatcher,
    ):
        done = subprocess.run(
            [sys.executable, "-c", SUBMIT_AND_WAIT],
            env=environment(env), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        shown.append(done.stdout + done.stderr)
        assert done.stdout == "success\n", (shown[-1], [log.read_text()[-2000:] for log in logs])

        def routed() -> bool:
            assert worker.poll() is None, logs[0].read_text()[-4000:]
            assert sink.poll() is None, logs[1].read_text()[-4000:]
            return journal.exists() and '"outcome":"routed"' in journal.read_text()

        until(routed, "the decision in the sink's file")
        # There is no Postgres here, and that alone is amiss.
        seen = json.loads(command("check", "--json", code=FAILED))
        assert seen["pools"][0]["pool"] == "main"
        assert [one["partitions"] for one in seen["parts"]["workers"]] == [[0, 1]]
        for process in (dispatcher, worker, sink):
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
    shown += [log.read_text(errors="replace") for log in logs]
    assert [line for text in shown for line in text.splitlines() if PASSWORD in line or "Traceback" in line] == []


def wrong_authority(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Trust another authority."""
    other = Authority(folder / "other")
    settings = login(kafka, folder) | {"SLOTWISE_KAFKA_CA_FILE": str(other.file)}
    return settings, f"is signed by no authority in {other.file}: set SLOTWISE_KAFKA_CA_FILE to"


def expired(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Go to a broker whose certificate has expired."""
    return login(kafka, folder, "EXPIRED"), "has expired, or its authority's has: have it renewed"


def wrong_host(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Go to a broker whose certificate is for another name."""
    return login(kafka, folder, "ELSEWHERE"), "is not for the name 127.0.0.1: set SLOTWISE_BROKER to a name that"


def wrong_password(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Give another password."""
    settings = login(kafka, folder)
    (folder / "password").write_text("Canary2Sings\n")
    return settings, f"refuses the login of {USER} by SCRAM-SHA-512: set SLOTWISE_KAFKA_USER and the password in"


def no_certificate(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Show no certificate where one is wanted."""
    settings = certificate(kafka, folder)
    del settings["SLOTWISE_KAFKA_CERT_FILE"], settings["SLOTWISE_KAFKA_KEY_FILE"]
    return settings, "it wants a client's certificate that it trusts and that has not expired (SLOTWISE_KAFKA_CERT_FILE"


def own_expired(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Show a certificate that has expired."""
    pair = kafka.authority.issue(f"old-{uuid.uuid4().hex[:8]}", until=-DAY)
    settings = certificate(kafka, folder)
    settings |= {"SLOTWISE_KAFKA_CERT_FILE": str(pair.cert), "SLOTWISE_KAFKA_KEY_FILE": str(pair.key)}
    return settings, "that has not expired (SLOTWISE_KAFKA_CERT_FILE"


def no_security(kafka: SecureKafka, _folder: Path) -> tuple[dict[str, str], str]:
    """Set nothing for a listener that asks for a login."""
    return {"SLOTWISE_BROKER": kafka.at("SASL")}, "wants encryption or a login; set SLOTWISE_KAFKA_SECURITY to what it"


def no_tls(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Speak TLS to a listener that does not."""
    return login(kafka, folder, "CLEAR"), "does not speak TLS, and SLOTWISE_KAFKA_SECURITY=SASL_SSL asks for it"


def no_login(kafka: SecureKafka, folder: Path) -> tuple[dict[str, str], str]:
    """Log in at a listener that takes certificates."""
    settings = login(kafka, folder, "MUTUAL") | certificate(kafka, folder) | {"SLOTWISE_KAFKA_SECURITY": "SASL_SSL"}
    return settings, "takes no login by SCRAM-SHA-512 on this listener: set SLOTWISE_KAFKA_SASL_MECHANISM"


ALL = (wrong_authority, expired, wrong_host, wrong_password)
OTHERS = (no_certificate, own_expired, no_security, no_tls, no_login)
COMMANDS = {
    "worker": ("worker",),
    "sink": ("sink", "--to", "-"),
    "send": ("send", "task", "--now"),
}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        *(pytest.param(case, words, id=f"{case.__name__}-{name}") for case in ALL for name, words in COMMANDS.items()),
        *(pytest.param(case, ("topics", "check"), id=f"{case.__name__}-topics") for case in (*ALL, *OTHERS)),
        pytest.param(wrong_password, ("check",), id="wrong_password-check"),
    ],
)
def test_what_is_refused_is_said_once(
    secure_kafka: SecureKafka, tmp_path: Path, case: Case, words: tuple[str, ...]
) -> None:
    """Soon, in one sentence with what to set, with exit code 2, and without a try again."""
    env, sentence = case(secure_kafka, tmp_path)
    env |= {"SLOTWISE_WEB_PORT": str(free_port()), "SLOTWISE_DATA_DIR": str(tmp_path / "data")}
    begun = time.monotonic()
    done = slotwise(*words, stdin='{"task_id":"t-1","pool":"main"}', env=env)
    assert done.returncode == MISTAKE, done.stderr
    assert sentence in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("127.0.0.1") <= 2, "one sentence, and not the client's complaints too"
    assert "Canary" not in done.stderr
    assert time.monotonic() - begun < REFUSED_S_MAX


def test_a_broker_that_is_away_refuses_nothing(secure_kafka: SecureKafka, tmp_path: Path) -> None:
    """That is another sentence, and another exit code: to try again later helps."""
    env = login(secure_kafka, tmp_path) | {"SLOTWISE_BROKER": f"127.0.0.1:{free_port()}"}
    done = slotwise("topics", "check", env=env)
    assert done.returncode == UNREACHABLE
    assert "No broker answers at" in done.stderr
