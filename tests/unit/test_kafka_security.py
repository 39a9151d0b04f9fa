"""The settings by which Kafka is reached are checked as one; what is wrong is one sentence that says what to set."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.access.security import client_options, security_of
from streams.app import _credentials
from streams.errors import MISTAKE
from streams.settings import KAFKA_GROUP, Settings, SettingsError, load, table
from tests.support.certificates import Authority, private_pem

PASSWORD = "Canary2Sings"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Give files as they should be, and some that are not."""
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    loaded = serialization.load_pem_private_key(one.key.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    contents = {
        "password": PASSWORD.encode() + b"\n",
        "windows": PASSWORD.encode() + b"\r\n",
        "empty": b"\n",
        "two-lines": b"a\nb\n",
        "latin": b"p\xe4ss\n",
        "long": b"p" * 4_097,
        "locked": private_pem(loaded, b"locked"),
        "text": b"no certificate\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in contents} | {
        "ca": str(authority.file),
        "cert": str(one.cert),
        "key": str(one.key),
        "other key": str(other.key),
        "none": str(tmp_path / "none"),
    }


def login(files: dict[str, str], **changes: str) -> dict[str, str]:
    """Give the settings of a login over TLS, changed."""
    return {
        "broker": "kafka.example:9093",
        "kafka_security": "SASL_SSL",
        "kafka_sasl_mechanism": "SCRAM-SHA-512",
        "kafka_user": "ann",
        "kafka_password_file": files["password"],
        **changes,
    }


def test_nothing_set_is_plaintext() -> None:
    """As before there were these settings."""
    options = client_options(Settings(broker="a:1,b:2"))
    assert options == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT", "ssl_context": None}
    assert _credentials(Settings()) is None


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_a_login_is_the_same_for_every_client(files: dict[str, str], protocol: str, mechanism: str) -> None:
    """Also for Faust, which has a form of its own for it; the end of the line is no part of the password."""
    changes = {"kafka_security": protocol, "kafka_sasl_mechanism": mechanism, "kafka_password_file": files["windows"]}
    settings = load({}, login(files, **changes))
    options = client_options(settings)
    assert options.pop("bootstrap_servers") == ["kafka.example:9093"]
    assert options["sasl_plain_password"] == PASSWORD
    assert (options["ssl_context"] is None) == (protocol == "SASL_PLAINTEXT")
    assert (options["security_protocol"], options["sasl_mechanism"]) == (protocol, mechanism)
    credentials = _credentials(settings)
    assert isinstance(credentials, SASLCredentials)
    assert credentials_to_aiokafka_auth(credentials) == options
    assert PASSWORD not in repr(credentials)


def test_certificate_and_name_of_the_broker_are_always_checked(files: dict[str, str]) -> None:
    """With an authority of one's own and with the system's, with a certificate of one's own and without."""
    own = {"kafka_cert_file": files["cert"], "kafka_key_file": files["key"]}
    for more in ({}, {"kafka_ca_file": files["ca"]}, {"kafka_ca_file": files["ca"], **own}):
        settings = load({}, {"kafka_security": "SSL", **more})
        context = client_options(settings)["ssl_context"]
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        credentials = _credentials(settings)
        assert isinstance(credentials, SSLCredentials)
        assert credentials.context is context
        # Only what the file names is trusted, and not the system's authorities too.
        assert "kafka_ca_file" not in more or len(context.get_ca_certs()) == 1


SASL = {"kafka_sasl_mechanism": "PLAIN", "kafka_user": "ann", "kafka_password_file": "password"}
WRONG: dict[str, tuple[dict[str, str], str]] = {
    "a user without a mechanism": (
        {"kafka_security": "SASL_SSL", "kafka_user": "ann"},
        "SASL_SSL needs SLOTWISE_KAFKA_SASL_MECHANISM: set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    ),
    "no user": ({"kafka_security": "SASL_SSL", **SASL, "kafka_user": ""}, "needs SLOTWISE_KAFKA_USER: set it to"),
    "no password": (
        {"kafka_security": "SASL_SSL", **SASL, "kafka_password_file": ""},
        "needs SLOTWISE_KAFKA_PASSWORD_FILE: set it to a file that holds the password.",
    ),
    "a user that is not sent": (
        {"kafka_user": "ann"},
        "does not use it: set SLOTWISE_KAFKA_SECURITY=SASL_PLAINTEXT (or SASL_SSL, with encryption), or leave SLOTWISE",
    ),
    "a user over SSL": ({"kafka_security": "SSL", "kafka_user": "ann"}, "set SLOTWISE_KAFKA_SECURITY=SASL_SSL, or"),
    "an authority without TLS": (
        {"kafka_ca_file": "ca"},
        "set SLOTWISE_KAFKA_SECURITY=SSL, or leave SLOTWISE_KAFKA_CA",
    ),
    "an authority with a login": (
        {"kafka_security": "SASL_PLAINTEXT", **SASL, "kafka_ca_file": "ca"},
        "set SLOTWISE_KAFKA_SECURITY=SASL_SSL, or leave SLOTWISE_KAFKA_CA_FILE out.",
    ),
    "a certificate without a key": (
        {"kafka_security": "SSL", "kafka_cert_file": "cert"},
        "SLOTWISE_KAFKA_CERT_FILE is given without SLOTWISE_KAFKA_KEY_FILE",
    ),
    "a key without a certificate": (
        {"kafka_security": "SSL", "kafka_key_file": "key"},
        "SLOTWISE_KAFKA_KEY_FILE is given without SLOTWISE_KAFKA_CERT_FILE",
    ),
    "the key of another": (
        {"kafka_security": "SSL", "kafka_cert_file": "cert", "kafka_key_file": "other key"},
        "does not fit the certificate in SLOTWISE_KAFKA_CERT_FILE",
    ),
    "an encrypted key": (
        {"kafka_security": "SSL", "kafka_cert_file": "cert", "kafka_key_file": "locked"},
        "is encrypted: name a file with the plain key",
    ),
    "no certificate in the file": (
        {"kafka_security": "SSL", "kafka_cert_file": "text", "kafka_key_file": "key"},
        "hold no certificate and key in PEM form",
    ),
    "no authority in the file": (
        {"kafka_security": "SSL", "kafka_ca_file": "text"},
        "holds no certificate in PEM form: name the file with the certificate of the authority",
    ),
    "no such authority": (
        {"kafka_security": "SSL", "kafka_ca_file": "none"},
        "cannot be read: No such file or directory; name a file that is there.",
    ),
    "no such certificate": (
        {"kafka_security": "SSL", "kafka_cert_file": "none", "kafka_key_file": "key"},
        "SLOTWISE_KAFKA_CERT_FILE: ",
    ),
    "no such key": ({"kafka_security": "SSL", "kafka_cert_file": "cert", "kafka_key_file": "none"}, "KAFKA_KEY_FILE: "),
    "an empty password": (
        {"kafka_security": "SASL_SSL", **SASL, "kafka_password_file": "empty"},
        "The file of SLOTWISE_KAFKA_PASSWORD_FILE holds no password",
    ),
}
WRONG |= {
    f"a password of {name}": (
        {"kafka_security": "SASL_SSL", **SASL, "kafka_password_file": name},
        "must be one line of UTF-8 text, of at most 4096 bytes.",
    )
    for name in ("two-lines", "latin", "long")
}


@pytest.mark.parametrize(("given", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_one_sentence(files: dict[str, str], given: dict[str, str], sentence: str) -> None:
    """With the settings to change, and never by asking at the terminal."""
    settings = load({}, {name: files.get(text, text) for name, text in given.items()})
    with pytest.raises(SettingsError) as refused:
        security_of(settings)
    said = str(refused.value)
    assert sentence in said
    assert said.endswith(".")
    assert "\n" not in said
    assert refused.value.exit_code == MISTAKE


def test_a_password_in_place_of_its_file_is_not_shown(files: dict[str, str]) -> None:
    """It is an easy mistake."""
    with pytest.raises(SettingsError, match="names no file that can be read") as refused:
        security_of(load({}, login(files, kafka_password_file=PASSWORD)))
    assert PASSWORD not in str(refused.value)
    with pytest.raises(SettingsError, match="did you mean SLOTWISE_KAFKA_PASSWORD_FILE") as unknown:
        load({"SLOTWISE_KAFKA_PASSWORD": PASSWORD})
    assert PASSWORD not in str(unknown.value)


def test_the_password_is_a_secret(files: dict[str, str]) -> None:
    """Whatever of the group is printed."""
    security = security_of(load({}, login(files)))
    assert security.login is not None
    assert PASSWORD not in f"{security} {security!r} {security.login} {security.login.password}"


@pytest.mark.parametrize(
    ("broker", "warned"),
    [
        ("127.0.0.1:9092", False),
        ("localhost:9092", False),
        ("[::1]:9092", False),
        ("10.0.0.1:9092", True),
        ("localhost:9092,kafka.example:9092", True),
    ],
)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_login_without_encryption_is_warned_of(
    files: dict[str, str], caplog: pytest.LogCaptureFixture, broker: str, warned: bool, mechanism: str
) -> None:
    """Unless it stays on this machine; once, however many clients there are."""
    changes = {"kafka_security": "SASL_PLAINTEXT", "kafka_sasl_mechanism": mechanism, "broker": broker}
    settings = load({}, login(files, **changes))
    client_options(settings), client_options(settings)
    assert len(caplog.messages) == (1 if warned else 0)
    for said in caplog.messages:
        assert "set SLOTWISE_KAFKA_SECURITY=SASL_SSL where the broker has it" in said
        assert ("the password itself readable" in said) == (mechanism == "PLAIN")
    caplog.clear()
    client_options(load({}, login(files, broker=broker)))
    assert caplog.messages == []


def test_the_group_is_whole() -> None:
    """What `up` and a command that joins it reset is found by its name."""
    group: dict[str, Any] = {row.name: row.default for row in table() if row.name.startswith(KAFKA_GROUP)}
    assert len(group) == 7
    assert security_of(Settings(**group)).protocol == "PLAINTEXT"
