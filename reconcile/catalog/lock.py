"""One run at a time: the vendor's own advisory lock, or a lock file beside an SQLite database.

The connection that takes the lock is kept for the whole run, and the switch happens on it, so that
a run whose lock is gone cannot switch.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from attrs import define, field
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.catalog.connect import Catalog, translated
from reconcile.errors import CatalogError, LockedError

LOCK_CLASS, LOCK_ID = 2, 1  # the vendor's: pg_advisory_lock(2, 1)
WORKERS = (0x7265636F, 1)  # shared by workers with a part of a run in hand
_POLL_SECONDS = 0.25
_WATCH_SECONDS = 2.0


@define
class RunLock:
    """The lock while it is held: ``connection`` is the one that holds it (PostgreSQL) or writes the switch."""

    catalog: Catalog
    connection: Connection
    _file: IO[str] | None = None
    _seen_at: float = field(factory=time.monotonic)
    _keeps_workers_out: bool = False

    def watch(self) -> None:
        """Check the lock every few seconds."""
        if time.monotonic() - self._seen_at >= _WATCH_SECONDS:
            self.check()

    def check(self) -> None:
        """Raise `LockedError` if the lock was lost."""
        if not self.catalog.is_postgresql:
            return
        self._seen_at = time.monotonic()
        with self._asked() as connection:
            if not self._is_held(connection):
                raise _lost()

    @contextmanager
    def _asked(self) -> Iterator[Connection]:
        """Open a short transaction on the connection that holds the lock. Raises `LockedError` where that is gone."""
        try:
            with _begun(self.catalog, self.connection):
                yield self.connection
        except DBAPIError as error:
            raise _lost() from error

    def keep_workers_out(self) -> bool:
        """Let no worker take a part from now on, by the session of this lock; False while one is working on a part."""
        if self.catalog.is_postgresql and not self._keeps_workers_out:
            taken = sa.select(sa.func.pg_try_advisory_lock(*WORKERS))
            with self._asked() as connection:
                self._keeps_workers_out = bool(connection.execute(taken).scalar_one())
        return self._keeps_workers_out or not self.catalog.is_postgresql

    def let_workers_in(self) -> None:
        """Let workers take parts."""
        if self._keeps_workers_out:
            with self._asked() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(*WORKERS)))
            self._keeps_workers_out = False

    def workers_at_work(self) -> list[str]:
        """Describe the sessions of workers that are working on a part."""
        with self._asked() as connection:
            return _holders(connection, *WORKERS)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open the switch's transaction on the connection that holds the lock, and take the lock in it again.

        Raises `LockedError` if the lock was lost meanwhile.
        """
        connection = self.connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with translated():
            try:
                with connection.begin():
                    self.catalog.settle(connection, bulk=True, durable=True)
                    self._assert_held(connection)
                    yield connection
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise _lost() from error
                raise

    def _assert_held(self, connection: Connection) -> None:
        if not self.catalog.is_postgresql:
            return
        again = connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK_CLASS, LOCK_ID))).scalar_one()
        if not (self._is_held(connection) and again):
            raise _lost()

    @staticmethod
    def _is_held(connection: Connection) -> bool:
        query = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
            " AND classid = :class AND objid = :id AND pid = pg_backend_pid()"
        )
        return bool(connection.execute(sa.text(query), {"class": LOCK_CLASS, "id": LOCK_ID}).scalar_one())


def _lost() -> LockedError:
    return LockedError(
        "the lock was lost: the database connection that held it is closed",
        hint="run the same command again: it takes the lock and resumes",
    )


@contextmanager
def run_lock(catalog: Catalog, wait: float, check: Callable[[], None] = lambda: None) -> Iterator[RunLock]:
    """Hold the lock for the block. Waits up to ``wait`` seconds, then raises `LockedError` (exit 10).

    ``check`` is called during the wait, and ends it by raising.
    """
    deadline = time.monotonic() + wait
    if catalog.is_postgresql:
        with catalog.engine.connect() as connection:
            with translated():
                refuse_pooler(catalog, connection)
                keep_session(catalog, connection)
            while not _try_advisory(catalog, connection):
                if time.monotonic() >= deadline:
                    with _begun(catalog, connection):
                        holder = _holder(connection) or "it was released just now"
                    raise LockedError(f"another run holds the lock: {holder}", hint=_HINT)
                check()
                time.sleep(_POLL_SECONDS)
            try:
                yield RunLock(catalog, connection)
            finally:
                _release(connection)
    else:
        with _locked_file(catalog, deadline, check) as file, catalog.engine.connect() as connection:
            yield RunLock(catalog, connection, file)


def refuse_pooler(catalog: Catalog, connection: Connection) -> None:
    """Raise `CatalogError` behind a transaction pooler: a lock of the session would not be this run's there.

    Two connections with the same server process prove it, as does one that changes its process while in use.
    """
    with _begun(catalog, connection):
        before = _server_process(connection)
    with catalog.engine.connect() as second, _begun(catalog, second):
        other = _server_process(second)
        with _begun(catalog, connection):
            after = _server_process(connection)
    if before == other or before != after:
        raise CatalogError(
            "the connection goes through a pooler that gives each transaction a different session, so the "
            "lock cannot be held; nothing was done",
            hint="connect to PostgreSQL itself, or to a pool with pool_mode=session",
        )


def keep_session(catalog: Catalog, connection: Connection) -> None:
    """Keep the server from ending the idle session that holds the lock, even if the role's default says so."""
    with _begun(catalog, connection):
        connection.exec_driver_sql(
            "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"  # PostgreSQL 14
        )


def _server_process(connection: Connection) -> int:
    return int(connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())


_HINT = (
    "wait until it ends, then run the same command again; --lock-wait SECONDS waits longer\n"
    "reconcile status    shows it"
)


@contextmanager
def _begun(catalog: Catalog, connection: Connection) -> Iterator[None]:
    """Open a short transaction with this tool's settings, whatever the role's defaults are."""
    with connection.begin():
        catalog.settle(connection)
        yield


def _try_advisory(catalog: Catalog, connection: Connection) -> bool:
    with _begun(catalog, connection):
        return bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(LOCK_CLASS, LOCK_ID))).scalar_one())


def _release(connection: Connection) -> None:
    """Give the lock back; ends the session, so that a pooled connection cannot keep it."""
    if not (connection.invalidated or connection.closed):
        connection.detach()


def lock_holder(catalog: Catalog) -> str | None:
    """Describe who holds the lock; None if it is free. Takes no lock and blocks nothing."""
    if catalog.is_postgresql:
        with catalog.read() as connection:
            return _holder(connection)
    try:
        text = _lock_file(catalog).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return text if text and _may_live(text) else None


def _holder(connection: Connection) -> str | None:
    return next(iter(_holders(connection, LOCK_CLASS, LOCK_ID)), None)


def _holders(connection: Connection, lock_class: int, lock_id: int) -> list[str]:
    """Return the sessions that hold a lock, in words."""
    rows = connection.execute(
        sa.text(
            "SELECT a.pid, a.application_name, a.client_addr::text, a.backend_start FROM pg_locks l"
            " JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
            " AND l.classid = :class AND l.objid = :id"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY a.pid"
        ),
        {"class": lock_class, "id": lock_id},
    )
    return [_session_text(row) for row in rows]


def holds_workers_lock(connection: Connection, session: int) -> bool:
    """Tell whether a database process holds the lock that workers share: not once its client has gone."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = :class"
        " AND objid = :id AND pid = :pid"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    values = {"class": WORKERS[0], "id": WORKERS[1], "pid": session}
    return bool(connection.execute(sa.text(query), values).scalar_one())


def _session_text(row: sa.Row[Any]) -> str:
    name = row.application_name or "an unnamed program (the vendor's migration?)"
    since = f", since {row.backend_start:%F %T %Z}" if row.backend_start else ""  # of another role: not told
    return f"{name}, database process {row.pid} from {row.client_addr or 'this host'}{since}"


def _lock_file(catalog: Catalog) -> Path:
    return catalog.sqlite_path.with_name(catalog.sqlite_path.name + ".reconcile-lock")


def _may_live(text: str) -> bool:
    """Tell whether the process that a lock file names may still hold it: a killed one leaves its name there."""
    found = re.match(r"process (\d+) on (\S+),", text)
    if found is None or found[2] != socket.gethostname():
        return found is not None
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _locked_file(catalog: Catalog, deadline: float, check: Callable[[], None]) -> Iterator[IO[str]]:
    path = _lock_file(catalog)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CatalogError(
            f"{path}: the lock file beside the database cannot be opened: {error.strerror}; nothing was done",
            hint="run as a user with write permission there",
        ) from None
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(f"another run holds the lock: {file.read().strip()}", hint=_HINT) from None
                check()
                time.sleep(_POLL_SECONDS)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%F %T UTC}\n")
        file.flush()
        try:
            yield file
        finally:
            file.truncate(0)
