"""Why a broker is not used: its certificate is not trusted, or it refuses the login. Asked of one connection.

The clients retry such an answer as if the broker were away, for seconds or without end, and say little. So a process
asks before its clients connect: no time makes a wrong password right.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiokafka.conn import DEFAULT_KAFKA_PORT, AIOKafkaConnection, get_ip_port_afi
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.access.security import PLAIN, KafkaSecurity, security_of
from streams.errors import MISTAKE, SlotwiseError
from streams.settings import Settings
from streams.text import printable

#: Longest wait for one address; one that is silent is away, and refuses nothing.
ANSWER_S_MAX: Final = 5.0
#: Longest wait for the other side's goodbye.
CLOSE_S_MAX: Final = 1.0

#: OpenSSL's numbers of what is wrong with a certificate.
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})


class BrokerRefused(SlotwiseError):
    """The broker is there, and it refuses this process or is not to be trusted; the message says what to set."""

    exit_code = MISTAKE


class _Closed(BrokerRefused):
    """It closed the connection without a word: the reason is a guess."""


def require_welcome(settings: Settings) -> None:
    """Check at a start that a broker takes this process. One that is away is none of its business.

    It blocks, as kafka-python's clients do, for which it asks; under an event loop it belongs into a thread.

    Raises:
        BrokerRefused: no broker that answered does.
        SettingsError: as `security_of`.
    """
    # In a thread of its own, which has no event loop yet, whatever the caller's has.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: asyncio.run(_refusal(settings))).result()
    if found is not None:
        raise found


def require_access(settings: Settings) -> None:
    """Check the same where there is encryption or a login that a broker could refuse; else nothing is asked.

    Raises:
        BrokerRefused, SettingsError: as `require_welcome`.
    """
    if settings.kafka_security != PLAIN:
        require_welcome(settings)


async def refusal(settings: Settings) -> BrokerRefused | None:
    """Return why no broker takes this process, if one said it; None: one does, none answers, or it is not certain.

    For a process that has worked before: a broker that ends closes connections without a word, too.

    Raises:
        SettingsError: as `security_of`.
    """
    found = await _refusal(settings)
    return None if isinstance(found, _Closed) else found


async def _refusal(settings: Settings) -> BrokerRefused | None:
    security = security_of(settings)
    found: BrokerRefused | None = None
    for address in settings.broker.split(","):
        try:
            host, port, _ = get_ip_port_afi(address.strip())
        except ValueError:
            continue  # no address that a client takes; it says so itself
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await _ask(host, port if port >= 0 else DEFAULT_KAFKA_PORT, security)
        except (KafkaError, OSError, TimeoutError) as error:
            found = found or _why(error, address.strip(), host, settings, security)
        except (ValueError, OverflowError):
            continue  # no name or port that can be
        else:
            return None
    return found


async def _ask(host: str, port: int, security: KafkaSecurity) -> None:
    options = {name: value for name, value in security.options().items() if value is not None}
    opened: list[object] = []
    connection = AIOKafkaConnection(
        host,
        port,
        client_id="slotwise-access",
        request_timeout_ms=int(ANSWER_S_MAX * 1000),
        on_close=lambda *_: opened.append(True),
        **options,
    )
    try:
        # The versions that `connect` asks for go to anyone; topics only to who may come in.
        await connection.connect()
        await connection.send(MetadataRequest([]))
    finally:
        closed = connection.close()
        if opened:
            await asyncio.wait([closed], timeout=CLOSE_S_MAX)


def _why(error: Exception, at: str, host: str, settings: Settings, security: KafkaSecurity) -> BrokerRefused | None:
    match error:
        case ssl.SSLCertVerificationError():
            return BrokerRefused(_untrusted(error, at, host, settings))
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return BrokerRefused(_no_tls(at, security))
        case UnsupportedSaslMechanismError() | IllegalSaslStateError() if security.login is not None:
            return BrokerRefused(
                f"The broker at {at} takes no login by {security.login.mechanism} on this listener: set "
                "SLOTWISE_KAFKA_SASL_MECHANISM to one that it has, or SLOTWISE_BROKER to a listener that logs in."
            )
        case AuthenticationFailedError() | SaslAuthenticationFailed() if security.login is not None:
            return BrokerRefused(
                f"The broker at {at} refuses the login of {printable(security.login.user)} by "
                f"{security.login.mechanism}: set SLOTWISE_KAFKA_USER and the password in SLOTWISE_KAFKA_PASSWORD_FILE "
                "to those that it has for this mechanism."
            )
        case ssl.SSLError() | KafkaConnectionError():
            return _unwelcome(error, at, security)
        case ConnectionResetError() | ConnectionAbortedError() if security.tls is not None:
            return _Closed(_no_tls(at, security))
    return None


def _no_tls(at: str, security: KafkaSecurity) -> str:
    plain = "SASL_PLAINTEXT" if security.login is not None else "PLAINTEXT"
    return (
        f"What listens at {at} does not speak TLS, and SLOTWISE_KAFKA_SECURITY={security.protocol} asks for it: set "
        f"SLOTWISE_BROKER to the broker's encrypted listener, or SLOTWISE_KAFKA_SECURITY={plain}."
    )


def _untrusted(error: ssl.SSLCertVerificationError, at: str, host: str, settings: Settings) -> str:
    said = f"The certificate of the broker at {at} "
    if error.verify_code in _OTHER_NAME:
        return (
            f"{said}is not for the name {host}: set SLOTWISE_BROKER to a name that stands in the certificate, or have "
            "one issued for this name."
        )
    if error.verify_code == _EXPIRED:
        return f"{said}has expired, or its authority's has: have it renewed (and check this machine's clock)."
    if error.verify_code == _NOT_YET:
        return f"{said}is not valid yet: check this machine's clock, and the broker's when it was issued."
    if error.verify_code in _UNKNOWN_AUTHORITY:
        known = settings.kafka_ca_file or "the system's list"
        return (
            f"{said}is signed by no authority in {known}: set SLOTWISE_KAFKA_CA_FILE to the certificate of the "
            "authority that signed it."
        )
    return f"{said}cannot be trusted ({error.verify_message}): have another issued, or correct SLOTWISE_KAFKA_CA_FILE."


def _unwelcome(error: Exception, at: str, security: KafkaSecurity) -> BrokerRefused:
    alert = next((one.reason for one in _causes(error) if isinstance(one, ssl.SSLError) and one.reason), None)
    closed = f"The broker at {at} took the connection and closed it"
    if security.tls is None:
        return _Closed(
            f"{closed}: if it is a Kafka broker, this listener wants encryption or a login; set "
            "SLOTWISE_KAFKA_SECURITY to what it is (SSL, SASL_SSL or SASL_PLAINTEXT)."
        )
    said = f" ({alert.replace('_', ' ').lower()})" if alert else ""
    login = "" if security.login is not None else ", or a login (SLOTWISE_KAFKA_SECURITY=SASL_SSL)"
    return (BrokerRefused if alert else _Closed)(
        f"{closed}{said}: it wants a client's certificate that it trusts and that has not expired "
        f"(SLOTWISE_KAFKA_CERT_FILE and SLOTWISE_KAFKA_KEY_FILE){login}."
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
