"""Every setting of slotwise: one table of name, default, unit and help.

The command line, the environment (`SLOTWISE_<NAME>`), docs/settings.md and validation read this table and
nothing else. The environment is read once, by `load`, at the start; all other code receives the value.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from streams.errors import MISTAKE, SlotwiseError
from streams.secret import Dsn

_log = logging.getLogger(__name__)

ENV_PREFIX: Final = "SLOTWISE_"
#: The settings of this group say how a broker is reached: they belong to its address.
KAFKA_GROUP: Final = "kafka_"
#: The instance id of a process that is to have none.
NAMELESS: Final = "none"
#: Old names of settings, each accepted with a warning until the next minor version.
RENAMED: Final = {"delivery_audit_s": "delivery_check_s"}


#: What Kubernetes puts into the environment of a pod beside a Service whose name begins with `slotwise`.
_SERVICE: Final = re.compile(
    rf"{ENV_PREFIX}(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")


class SettingsError(SlotwiseError):
    """A setting is unknown or has an invalid value; the message names it and what is allowed."""

    exit_code = MISTAKE


def _help(text: str, unit: str = "") -> Meta:
    return Meta(description=text, extra={"unit": unit})


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one process."""

    broker: Annotated[str, _help("Kafka bootstrap address; several with commas", "host:port")] = "127.0.0.1:9092"
    kafka_security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        _help("How Kafka is reached: SSL encrypts, SASL logs in; the name of the broker's listener type"),
    ] = "PLAINTEXT"
    kafka_ca_file: Annotated[
        str, _help("PEM: authorities that may sign the broker's certificate; empty: those of the system", "file")
    ] = ""
    kafka_cert_file: Annotated[str, _help("PEM: certificate by which this process is known to the broker", "file")] = ""
    kafka_key_file: Annotated[str, _help("PEM: the plain key of that certificate", "file")] = ""
    kafka_sasl_mechanism: Annotated[
        Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], _help("How the user logs in to Kafka")
    ] = ""
    kafka_user: Annotated[str, _help("User of Kafka")] = ""
    kafka_password_file: Annotated[str, _help("Holds the password of that user, in one line", "file")] = ""
    database: Annotated[Dsn, _help("Postgres of the audit, with a role that may insert", "DSN")] = Dsn(
        "postgresql://127.0.0.1:5432/slotwise"
    )
    group: Annotated[str, _help("Name of this installation: consumer groups and Faust's own topics start with it")] = (
        "slotwise"
    )
    topic_prefix: Annotated[str, _help("Put before every topic name, so that installations can share a broker")] = ""
    partitions: Annotated[
        int, Meta(ge=1, le=4096), _help("Partitions of every keyed topic; changing it is a migration")
    ] = 8
    replication: Annotated[int, Meta(ge=1, le=16), _help("Copies of every partition")] = 1
    catalog: Annotated[str, _help("Model catalogue; empty: the shipped one", "file")] = ""
    policy: Annotated[str, _help("Policy; empty: the shipped one", "file")] = ""
    data_dir: Annotated[str, _help("Where `slotwise up` keeps its data", "directory")] = ".slotwise"
    instance_id: Annotated[
        str,
        _help(
            "Name of this process in its group, its own alone, by which a restarted one takes over at once; empty: "
            "for a worker the host's name and the address of its pages, for a sink `none`, which is no name"
        ),
    ] = ""
    round_ms_min: Annotated[int, Meta(ge=0, le=60_000), _help("Shortest time that a round collects inputs", "ms")] = 0
    step_inputs_max: Annotated[int, Meta(ge=1, le=100_000), _help("Most inputs that one step holds", "inputs")] = 1000
    step_bytes_max: Annotated[
        int, Meta(ge=65_536, le=64_000_000), _help("Largest journal record; topics are created to take it", "bytes")
    ] = 8_000_000
    now_ahead_ms_max: Annotated[
        int, Meta(ge=0, le=3_600_000), _help("How far a record's time may be ahead of the worker's clock", "ms")
    ] = 5_000
    delivery_check_s: Annotated[
        float, Meta(gt=0, le=3600), _help("How often delivery is checked for missing inputs", "s")
    ] = 1.0
    session_timeout_s: Annotated[
        float, Meta(ge=1, le=600), _help("A worker that is silent so long has left its group", "s")
    ] = 6.0
    rebalance_timeout_s: Annotated[
        float, Meta(ge=1, le=600), _help("How long a rebalance waits for members to rejoin", "s")
    ] = 3.0
    recovery_timeout_s: Annotated[
        float, Meta(ge=1, le=3600), _help("A partition that is not recovered by then ends the worker", "s")
    ] = 90.0
    checkpoint_changes_min: Annotated[
        int, Meta(ge=1, le=10_000_000), _help("Row changes after which a partition is checkpointed again", "rows")
    ] = 5_000
    retention_hours: Annotated[
        float, Meta(gt=0), _help("How long input, output and journal topics keep records", "h")
    ] = 168.0
    web_host: Annotated[str, _help("Address of the worker's health, metrics and table pages")] = "127.0.0.1"
    web_port: Annotated[int, Meta(ge=0, le=65_535), _help("Port of those pages; 0 picks a free one")] = 6066
    sink_web_port: Annotated[int, Meta(ge=0, le=65_535), _help("Port of the sink's health and metrics; 0: none")] = 0
    shadow_web_port: Annotated[int, Meta(ge=0, le=65_535), _help("Port of a shadow's health and metrics; 0: none")] = 0
    http_host: Annotated[str, _help("Address of the HTTP API")] = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65_535), _help("Port of the HTTP API; 0 picks a free one")] = 6080
    http_tokens: Annotated[
        str,
        _help(
            "Who may use the HTTP API: a line for each token, as `slotwise token` prints it; empty: only this machine, "
            "and no orders of operators",
            "file",
        ),
    ] = ""
    http_names: Annotated[
        str, _help("Host names by which the HTTP API is called, beside its own address and localhost; with commas")
    ] = ""
    http_token_rate: Annotated[
        float, Meta(ge=0, le=1_000_000), _help("Requests that each token may send to the HTTP API; 0: any", "/s")
    ] = 500.0
    http_address_rate: Annotated[
        float,
        Meta(ge=0, le=1_000_000),
        _help("Requests that each client's address may send to it where there are no tokens; 0: any", "/s"),
    ] = 0.0
    dry_run: Annotated[
        bool,
        _help("Whether workers only decide and record, in a group and topics of their own, and route nothing"),
    ] = False
    journal: Annotated[
        str, _help("Name of the journal in the audit; a journal that is created again needs another")
    ] = ""
    sink_rows_max: Annotated[
        int, Meta(ge=1, le=1_000_000), _help("Most rows the sink writes in one transaction", "rows")
    ] = 5_000
    audit_titles: Annotated[
        bool,
        _help("Whether the sink writes titles of tasks into the audit, where `slotwise explain --find` reads them"),
    ] = True
    database_connect_timeout_s: Annotated[int, Meta(ge=1, le=600), _help("Longest connection attempt", "s")] = 5
    database_statement_timeout_s: Annotated[float, Meta(gt=0, le=3600), _help("Longest statement", "s")] = 30.0
    database_silence_timeout_s: Annotated[
        float, Meta(gt=0, le=600), _help("TCP user time-out: a network that is silent so long counts as broken", "s")
    ] = 5.0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _help("Least important log line shown")] = "info"
    log_json: Annotated[bool, _help("Log lines as JSON objects; off: for people")] = False


class Setting(Struct, frozen=True):
    """One row of the table."""

    name: str
    env: str
    default: Any
    unit: str
    help: str
    type: Any


def table() -> tuple[Setting, ...]:
    """Return the table, in the order of definition."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Settings):
        metas = [m for m in hints[field.name].__metadata__ if m.description]
        rows.append(
            Setting(
                name=field.name,
                env=ENV_PREFIX + field.name.upper(),
                default=field.default,
                unit=(metas[0].extra or {}).get("unit", ""),
                help=metas[0].description,
                type=hints[field.name],
            )
        )
    return tuple(rows)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each setting that the environment gives, by field name; an old name counts as the new one.

    Raises:
        SettingsError: an unknown `SLOTWISE_` variable (with the nearest known one).
    """
    known = {row.env: row.name for row in table()}
    renamed = {ENV_PREFIX + old.upper(): new for old, new in RENAMED.items()}
    values: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or _of_a_service(variable, text):
            continue
        if variable in renamed:
            # Where both are given, the new one counts.
            values.setdefault(renamed[variable], text)
        elif variable in known:
            values[known[variable]] = text
        else:
            near = difflib.get_close_matches(variable, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; `slotwise settings` lists the known ones"
            raise SettingsError(f"{variable} is no setting of slotwise{hint}")
    return values


def _of_a_service(variable: str, text: str) -> bool:
    """Whether Kubernetes wrote a variable for a Service, such as `slotwise` or `slotwise-web`: it is no setting."""
    return _SERVICE.fullmatch(variable) is not None or (variable.endswith("_PORT") and _ADDRESS.match(text) is not None)


def load(environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return settings from the environment, overridden by those of the command line (`overrides`, by field name).

    Raises:
        SettingsError: an unknown `SLOTWISE_` variable (with the nearest known one) or a value out of range.
    """
    values: dict[str, Any] = dict(from_environment(environ))
    for old, new in RENAMED.items():
        if ENV_PREFIX + old.upper() in environ:
            _log.warning("%s%s is now %s%s; the old name will go.", ENV_PREFIX, old.upper(), ENV_PREFIX, new.upper())
    values.update({name: value for name, value in (overrides or {}).items() if value is not None})
    by_name = {row.name: row for row in table()}
    for name, value in values.items():
        row = by_name.get(name)
        if row is None:
            near = difflib.get_close_matches(name, by_name, n=1)
            raise SettingsError(f"{name} is no setting of slotwise" + (f"; did you mean {near[0]}?" if near else ""))
        try:
            values[name] = msgspec.convert(value, row.type, strict=False, dec_hook=_secret)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{row.env}={value!r} cannot be used: {error}. {row.help}.") from None
    return Settings(**values)


def _secret(type_: type[Dsn], value: Any) -> Dsn:
    return type_(value)
