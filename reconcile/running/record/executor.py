"""Who executes: one process at a time on one database, by the lock and by a random token in a table.

The lock says who may begin; the token says who may still write and delete. Taking over writes a new token, so that
nothing which an earlier process still does afterwards passes `Executor.guard`. A database that was restored meanwhile
may hold an old token as if it were the current one; so the session that took the lock must still exist, too.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from attrs import Factory, define, field
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.catalog import Catalog
from reconcile.catalog.lock import LOCK_CLASS, LOCK_ID, RunLock, run_lock
from reconcile.catalog.services import database_now
from reconcile.errors import CatalogError, ConfigError, ReconcileError, SupersededError
from reconcile.logs import get_logger
from reconcile.machine import user_at_host
from reconcile.running.record import late_requests
from reconcile.running.record.claims import end_parts, keep_workers_out
from reconcile.running.record.tables import claims, create_work_tables, executors, places
from reconcile.stores import Address
from reconcile.stores.addresses import Key

_START = "(extract(epoch FROM backend_start) * 1000000)::bigint::text"  # the same for clients in any time zone
_SESSION = sa.text(f"SELECT pid, {_START} FROM pg_stat_activity WHERE pid = pg_backend_pid()")  # noqa: S608
_STARTED = sa.text(f"SELECT {_START} FROM pg_stat_activity WHERE pid = :pid")  # noqa: S608
_SESSION_HOLDS = sa.text(
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"  # noqa: S608
    " AND objsubid = 2 AND classid = :class AND objid = :id AND pid = :pid"
    " AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND :start = " + _START
)
RECENT_SECONDS = 5.0  # that an answer of the database is good for between the files of a batch
_LOCK_SECONDS = 15
_WORKERS_SECONDS = 15  # that workers are given to end what they are at

log = get_logger()


@define
class Executor:
    """This process, as the one that executes. A `Fence` for the stores."""

    catalog: Catalog
    lock: RunLock | None  # None in a worker: the process that leads the run holds it
    token: str
    session: tuple[int, str] | None = None
    folder: str = field(default=Factory(lambda self: self.token, takes_self=True))  # a worker has one of its own
    held: Callable[[], Iterable[str]] = tuple  # tokens of the claims that a worker has in hand
    _unrecorded: int = field(init=False, default=0)  # requests without an answer that could not be put on record
    _asked: tuple[float, float] = field(init=False, factory=lambda: (0.0, 0.0))

    def guard(self, connection: Connection) -> None:
        """Raise `SupersededError` unless this is still the executor; keeps it so until the transaction ends."""
        mine = sa.select(executors.c.token).where(executors.c.token == self.token, executors.c.ended_at.is_(None))
        locked = connection.execute(mine.with_for_update(read=True)).first() is not None
        if not (locked and self._holds_lock(connection)):
            raise SupersededError(
                "another process took over, or the lock was lost: this process writes and deletes nothing more",
                hint="the same command takes the lock again and resumes\nreconcile status    shows which "
                "process executes now",
            )
        self._refuse_without_claims(connection, sa.select(claims.c.token).with_for_update(read=True))

    def check(self) -> None:
        """Raise `SupersededError` unless this is still the executor, as the database says now."""
        clocks = _clocks()
        with self.catalog.read() as connection:
            mine = sa.select(executors.c.ended_at).where(executors.c.token == self.token)
            row = connection.execute(mine).first()
            is_ours = row is not None and row.ended_at is None and self._holds_lock(connection)
            self._refuse_without_claims(connection, sa.select(claims.c.token))
        if not is_ours:
            raise SupersededError(
                "another process took over, or the lock was lost: this process deletes nothing more",
                hint="the same command takes the lock again and resumes\nreconcile status    shows which "
                "process executes now",
            )
        self._asked = clocks

    def _refuse_without_claims(self, connection: Connection, query: sa.Select[tuple[str]]) -> None:
        """Raise `SupersededError` in a worker that another has taken a part from: it may be judged anew by that one."""
        tokens = set(self.held())
        if not tokens:
            return
        there = set(connection.execute(query.where(claims.c.token.in_(tokens))).scalars())
        if (tokens - there) & set(self.held()):  # what was given back meanwhile is not held any more
            raise SupersededError("another worker has taken a part over that this one had: this one deletes nothing")

    def _holds_lock(self, connection: Connection) -> bool:
        """Tell whether the session that took the lock lives and holds it: not in a database that was replaced."""
        if self.session is None:
            return True
        values = {"class": LOCK_CLASS, "id": LOCK_ID, "pid": self.session[0], "start": self.session[1]}
        return bool(connection.execute(_SESSION_HOLDS, values).scalar_one())

    def check_recent(self) -> None:
        """Check, unless the database was asked in the last few seconds."""
        now = _clocks()
        if max(now[0] - self._asked[0], now[1] - self._asked[1]) > RECENT_SECONDS or now[1] < self._asked[1]:
            self.check()

    def keep_workers_out(self, check: Callable[[], None] = lambda: None) -> None:
        """Let no worker work from now on; see `claims.keep_workers_out`."""
        assert self.lock is not None  # noqa: S101 - no worker switches or deletes
        keep_workers_out(self.lock, _WORKERS_SECONDS, check)

    def leave_workers(self, run_id: str) -> None:
        """End a run's parts, and record that all that workers have marked may still be deleted.

        Where that cannot be recorded, whoever comes next treats this process as killed.
        """
        self._unrecorded += 1
        with suppress(ReconcileError):  # the error that the run ends with is the one to tell
            with self.catalog.write(bulk=True) as connection:
                self.guard(connection)
                end_parts(connection, run_id)  # first: nobody marks anything afterwards
                late_requests.note_marked_of(connection, run_id)
            self._unrecorded -= 1

    @property
    def has_unrecorded(self) -> bool:
        """Whether a request was not answered, and that could not be recorded."""
        return self._unrecorded > 0

    def has_tables(self, connection: Connection) -> bool:
        """Tell whether the work tables still exist: forgetting the last run removes them."""
        return sa.inspect(connection).has_table(executors.name)

    def lives(self, address: Address, seconds: int) -> None:
        """Record that requests to this place may take effect so much later."""
        with self.catalog.write() as connection:
            self.guard(connection)
            connection.execute(
                sa.update(places)
                .where(places.c.store == address.identity, places.c.life < seconds)
                .values(life=seconds)
            )

    def unanswered(self, address: Address, keys: Sequence[Key]) -> None:
        """Record that these keys may still be deleted by a request that was never answered."""
        log.warning("a deleting request was not answered", at=address.identity, documents=len(keys))
        self._unrecorded += 1
        with self.catalog.write() as connection:
            late_requests.note(connection, address, keys, answered=False)
        self._unrecorded -= 1

    @contextmanager
    def pending(self, address: Address, keys: Sequence[Key]) -> Iterator[None]:
        """Record for the block that these keys are being deleted."""
        with self.catalog.write() as connection:
            self.guard(connection)
            late_requests.note(connection, address, keys, answered=True)
        yield
        with self.catalog.write() as connection:
            late_requests.settle(connection, address, keys)


def _clocks() -> tuple[float, float]:
    """Return two clocks: one that goes on while the machine sleeps, and the wall's, for what stops the first."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)), time.time()


@contextmanager
def executing(catalog: Catalog, wait: float, check: Callable[[], None] = lambda: None) -> Iterator[Executor]:
    """Take the lock and the token for the block. Raises `LockedError` after ``wait`` seconds (exit 10)."""
    with run_lock(catalog, wait, check) as lock:
        create_work_tables(catalog)
        executor = _take_over(catalog, lock)
        try:
            yield executor
        except ReconcileError:
            _end(executor)
            raise
        _end(executor)


def _end(executor: Executor) -> None:
    """Record that this process has ended by itself: what it sent was answered, or is on record as unanswered."""
    if executor.has_unrecorded:
        return  # whoever comes next treats it as killed
    mine = sa.update(executors).where(executors.c.token == executor.token, executors.c.ended_at.is_(None))
    with suppress(ReconcileError), executor.catalog.write() as connection:
        if executor.has_tables(connection):
            connection.execute(mine.values(ended_at=database_now(connection)))


def _take_over(catalog: Catalog, lock: RunLock) -> Executor:
    """Write a token. Waits for transactions of an earlier executor, and says so if they do not end."""
    token, session = secrets.token_hex(16), None
    with lock.transaction() as connection:  # on the lock's own session: who lost the lock replaces nobody
        try:
            if catalog.is_postgresql:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            now = database_now(connection)
            current = sa.update(executors).where(executors.c.ended_at.is_(None)).values(ended_at=now)
            ended = list(connection.execute(current.returning(executors.c.token)).scalars())
            if catalog.is_postgresql:
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != "55P03":
                raise
            raise CatalogError(
                f"an earlier process still has a transaction open on the work tables after {_LOCK_SECONDS} s;"
                " nothing was done",
                hint="end its sessions: SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'reconcile' AND pid <> pg_backend_pid(); then run the same command again",
            ) from None
        if catalog.is_postgresql:
            row = connection.execute(_SESSION).one()
            session = (int(row[0]), str(row[1]))
        values = {"token": token, "who": executor_name(), "taken_at": now}
        pid, start = session or (None, None)
        connection.execute(executors.insert(), values | {"session": pid, "session_start": start})
        late_requests.note_marked(connection, ended)
    return Executor(catalog, lock, token, session)


def led_by(catalog: Catalog, token: str) -> Executor:
    """Return the executor of a token, for a worker that does a part of its run.

    Raises `SupersededError` if that has ended, `ConfigError` if our role does not see its session.
    """
    query = sa.select(executors.c.session, executors.c.session_start)
    with catalog.read() as connection:
        row = connection.execute(query.where(executors.c.token == token, executors.c.ended_at.is_(None))).first()
        if row is None or row.session is None:
            raise SupersededError("the process that led this worker's run has ended")
        found = connection.execute(_STARTED, {"pid": row.session}).first()
        role = connection.execute(sa.select(sa.func.current_user())).scalar_one()
    if found is not None and found[0] is None:
        raise ConfigError(
            f"the database role {role} of this worker cannot see the session that leads the run, which "
            "belongs to another role",
            hint=f"connect as the same role, or have a superuser run: GRANT pg_read_all_stats TO {role};",
        )
    return Executor(catalog, None, token, (row.session, row.session_start), folder=secrets.token_hex(16))


def note_folder(executor: Executor) -> None:
    """Put on record where a worker takes files aside to: whoever executes later puts back what it left there."""
    with executor.catalog.write() as connection:
        executor.guard(connection)
        now = database_now(connection)
        values = {"token": executor.folder, "who": executor_name(), "taken_at": now, "ended_at": now}
        connection.execute(executors.insert(), values)


def executor_name() -> str:
    """Return who executes a run: the user of the operating system, host and process."""
    return f"{user_at_host()}:{os.getpid()}"
