"""The group of settings that says how Kafka is reached, checked as one, and the options of every client made from it.

Each client of slotwise, of aiokafka, kafka-python or Faust, gets its options here. Certificates are always checked, and
so is the name in them: there is no setting that leaves it out. Files are read once a process.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import ssl
from typing import Any, Final

from msgspec import Struct

from streams.secret import Secret
from streams.settings import Settings, SettingsError
from streams.text_file import TextFileError, read_bytes_file

_log = logging.getLogger(__name__)

#: Neither encryption nor a login.
PLAIN: Final = "PLAINTEXT"
PASSWORD_BYTES_MAX: Final = 4_096
_SECURITY: Final = "SLOTWISE_KAFKA_SECURITY"
_LOGIN: Final = ("kafka_sasl_mechanism", "kafka_user", "kafka_password_file")
_FILES: Final = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")
#: What to set each setting of a login to.
_TO: Final = {
    "kafka_sasl_mechanism": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, as the broker has it",
    "kafka_user": "the user's name",
    "kafka_password_file": "a file that holds the password",
}


class KafkaLogin(Struct, frozen=True):
    """A user, and how it proves itself."""

    mechanism: str
    user: str
    password: Secret


class KafkaSecurity(Struct, frozen=True):
    """What the settings say of encryption and login, with what their files hold."""

    protocol: str
    #: Checks the broker's certificate and its name; None: no encryption.
    tls: ssl.SSLContext | None = None
    login: KafkaLogin | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of a connection; aiokafka and kafka-python give them the same names."""
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.tls}
        if self.login is not None:
            options |= {
                "sasl_mechanism": self.login.mechanism,
                "sasl_plain_username": self.login.user,
                "sasl_plain_password": self.login.password.reveal(),
            }
        return options


def client_options(settings: Settings) -> dict[str, Any]:
    """Return where the broker is and how it is reached, as the options of any Kafka client.

    Raises:
        SettingsError: as `security_of`.
    """
    return {"bootstrap_servers": settings.broker.split(","), **security_of(settings).options()}


def security_of(settings: Settings) -> KafkaSecurity:
    """Check the group of settings as one, and read its files.

    Raises:
        SettingsError: they contradict each other, or a file cannot be used; one sentence with what to do.
    """
    return _security(settings.broker, settings.kafka_security, *(getattr(settings, name) for name in _FILES + _LOGIN))


@functools.lru_cache(maxsize=16)
def _security(
    broker: str, protocol: str, ca: str, cert: str, key: str, mechanism: str, user: str, password_file: str
) -> KafkaSecurity:
    given = dict(zip(_FILES + _LOGIN, (ca, cert, key, mechanism, user, password_file), strict=True))
    encrypts, logs_in = protocol.endswith("SSL"), protocol.startswith("SASL")
    _refuse_unused(given, protocol, encrypts=encrypts, logs_in=logs_in)
    tls = _tls(ca, cert, key) if encrypts else None
    login = _login(given, protocol) if logs_in else None
    if login is not None and tls is None and not all(map(_is_loopback, broker.split(","))):
        _log.warning(
            "The login of %s goes to %s without encryption%s: set %s=SASL_SSL where the broker has it.",
            user,
            broker,
            ", the password itself readable on the way" if mechanism == "PLAIN" else "",
            _SECURITY,
        )
    return KafkaSecurity(protocol, tls, login)


def _refuse_unused(given: dict[str, str], protocol: str, *, encrypts: bool, logs_in: bool) -> None:
    """Refuse what would be ignored: who set it believes that it protects."""
    unused = [name for name in _FILES if given[name] and not encrypts]
    unused += [name for name in _LOGIN if given[name] and not logs_in]
    if not unused:
        return
    wants_files = encrypts or any(name in _FILES for name in unused)
    wants_login = logs_in or any(name in _LOGIN for name in unused)
    fitting = ("SASL_" if wants_login else "") + ("SSL" if wants_files else "PLAINTEXT")
    also = " (or SASL_SSL, with encryption)" if fitting == "SASL_PLAINTEXT" else ""
    raise SettingsError(
        f"{_env(unused[0])} is given, and {_SECURITY}={protocol} does not use it: "
        f"set {_SECURITY}={fitting}{also}, or leave {_env(unused[0])} out."
    )


def _login(given: dict[str, str], protocol: str) -> KafkaLogin:
    for name in _LOGIN:
        if not given[name]:
            raise SettingsError(f"{_SECURITY}={protocol} needs {_env(name)}: set it to {_TO[name]}.")
    return KafkaLogin(given["kafka_sasl_mechanism"], given["kafka_user"], _password(given["kafka_password_file"]))


def _password(path: str) -> Secret:
    setting = _env("kafka_password_file")
    try:
        content = read_bytes_file(path)
    except TextFileError as error:
        # Without what was given: it may be the password itself.
        why = str(error).rpartition("cannot be read: ")[2].rstrip(".")
        raise SettingsError(
            f"{setting} names no file that can be read ({why}): set it to the path of a file that holds the password."
        ) from None
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = "\n"
    if not text or len(content) > PASSWORD_BYTES_MAX or any(sign in text for sign in "\r\n\0"):
        raise SettingsError(
            f"The file of {setting} holds no password: it must be one line of UTF-8 text, of at most "
            f"{PASSWORD_BYTES_MAX} bytes."
        )
    return Secret(text)


def _tls(ca: str, cert: str, key: str) -> ssl.SSLContext:
    if ca:
        authorities = _read("kafka_ca_file", ca)
        try:
            context = ssl.create_default_context(cadata=authorities.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError, ValueError):
            raise SettingsError(
                f"{_env('kafka_ca_file')}={ca} holds no certificate in PEM form: name the file with the certificate of "
                "the authority that signed the broker's."
            ) from None
    else:
        context = ssl.create_default_context()
    if bool(cert) != bool(key):
        there, missing = ("kafka_cert_file", "kafka_key_file") if cert else ("kafka_key_file", "kafka_cert_file")
        raise SettingsError(
            f"{_env(there)} is given without {_env(missing)}: a client's certificate and its key go together; set both "
            "(one file may hold them both), or neither."
        )
    if cert:
        _load_own(context, cert, key)
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str) -> None:
    _read("kafka_cert_file", cert)
    _read("kafka_key_file", key)

    def locked() -> str:
        # Without an answer of ours OpenSSL would ask at the terminal.
        raise SettingsError(
            f"The key in {_env('kafka_key_file')}={key} is encrypted: name a file with the plain key, which only its "
            "owner may read (openssl pkey -in KEY -out PLAIN_KEY writes one)."
        )

    try:
        context.load_cert_chain(cert, key, password=locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"The key in {_env('kafka_key_file')}={key} does not fit the certificate in "
                f"{_env('kafka_cert_file')}={cert}: name the key with which that certificate was requested."
            ) from None
        raise SettingsError(
            f"{_env('kafka_cert_file')}={cert} and {_env('kafka_key_file')}={key} hold no certificate and key in PEM "
            "form: name files that begin with a line of -----BEGIN."
        ) from None


def _read(name: str, path: str) -> bytes:
    try:
        return read_bytes_file(path)
    except TextFileError as error:
        raise SettingsError(f"{_env(name)}: {str(error).rstrip('.')}; name a file that is there.") from None


def _is_loopback(address: str) -> bool:
    host = address.strip().rpartition(":")[0].strip("[]") or address.strip()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _env(name: str) -> str:
    return f"SLOTWISE_{name.upper()}"
