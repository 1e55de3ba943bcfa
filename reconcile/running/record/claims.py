"""Claims: which worker has which part in hand, by a random token that locks what it records.

A part may be given to two workers: an engine lost it, or one of them was stopped for a while. The later claim holds;
whoever claimed earlier records nothing any more. That a worker is at work at all is a shared advisory lock of its
session: what must not meet a late worker (the switch, every delete) takes that lock for itself first.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from reconcile.catalog import Catalog
from reconcile.catalog.failures import translated
from reconcile.catalog.lock import WORKERS, RunLock, keep_session, refuse_pooler
from reconcile.catalog.services import database_now
from reconcile.errors import BusyError, CatalogError, LockedError, ReconcileError, SupersededError
from reconcile.running.record.tables import claims, runs

SEEN_SECONDS = 5.0  # between two signs of life of a worker
STALE_SECONDS = 30  # without one, after which its part may be another's
_HOLDS = sa.text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = :class"
    " AND objid = :id AND pid = :pid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_POLL_SECONDS = 0.25


@frozen
class Claim:
    """A worker's hold on a part of a run."""

    run_id: str
    first: int
    token: str

    def guard(self, connection: Connection) -> None:
        """Raise `SupersededError` unless the part is still this worker's; keeps it so until the transaction ends."""
        if connection.execute(sa.select(claims.c.token).where(*self._mine).with_for_update()).first() is None:
            raise SupersededError("another worker has this part by now, or its phase has ended")

    def give_back(self, connection: Connection) -> None:
        """Have it no more."""
        connection.execute(sa.delete(claims).where(*self._mine))

    @property
    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (claims.c.run_id == self.run_id, claims.c.first == self.first, claims.c.token == self.token)


def claim(connection: Connection, run_id: str, parts: str, first: int, worker: str, session: int) -> Claim:
    """Claim a part of the phase ``parts`` for a worker, whose shared lock is of this database process.

    Raises `BusyError` if another worker has it and gave a sign of life lately, `SupersededError` if the phase is over.
    """
    from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - there are no workers on SQLite

    if (
        connection.execute(sa.select(runs.c.run_id).where(runs.c.run_id == run_id, runs.c.parts == parts)).first()
        is None
    ):
        raise SupersededError("the phase that this part belongs to has ended")
    now = database_now(connection)
    theirs = sa.select(claims.c.worker, claims.c.seen_at, claims.c.session).where(
        claims.c.run_id == run_id, claims.c.first == first
    )
    found = connection.execute(theirs.with_for_update()).first()
    if found is not None and now - found.seen_at <= STALE_SECONDS and _is_at_work(connection, found.session):
        raise BusyError(f"worker {found.worker} has it in hand")
    new = {"token": secrets.token_hex(16), "worker": worker, "session": session, "seen_at": now}
    statement = insert(claims).values(run_id=run_id, first=first, **new)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "first"], set_=new))
    return Claim(run_id, first, str(new["token"]))


def _is_at_work(connection: Connection, session: int) -> bool:
    """Tell whether a database process holds the lock that workers share: not once its client has gone."""
    lock_class, lock_id = WORKERS
    return bool(connection.execute(_HOLDS, {"class": lock_class, "id": lock_id, "pid": session}).scalar_one())


def begin_parts(connection: Connection, run_id: str, engine: str) -> str:
    """Let workers claim parts of a run from here on; return the token of this phase."""
    parts = secrets.token_hex(16)
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(parts=parts, engine=engine))
    return parts


def end_parts(connection: Connection, run_id: str) -> None:
    """Let nobody claim a part any more, and end all claims."""
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(parts=None))
    connection.execute(sa.delete(claims).where(claims.c.run_id == run_id))


def claimed(connection: Connection, run_id: str) -> dict[int, bool]:
    """Return the first numbers of the parts that are claimed, and whether their workers gave a sign of life lately."""
    now = database_now(connection)
    query = sa.select(claims.c.first, claims.c.seen_at).where(claims.c.run_id == run_id)
    return {row.first: now - row.seen_at <= STALE_SECONDS for row in connection.execute(query)}


class AtWork:
    """That this process has parts in hand: a shared lock of a session of its own, and signs of life of its claims.

    ``lost`` is called where that session is gone while a part is in hand: nothing keeps others waiting then for what
    this process still writes, so that it has to end.
    """

    def __init__(self, catalog: Catalog, lost: Callable[[], None]) -> None:
        self._catalog, self._lost = catalog, lost
        self._lock = threading.Lock()
        self._claims = set[Claim]()
        self._in_hand = 0
        self._is_closing = False
        self._connection: Connection | None = None
        self._ended = threading.Event()

    @contextmanager
    def part(self) -> Iterator[int]:
        """Hold the lock for the block; it gets the number of the database process that does.

        Raises `SupersededError` where workers are kept out.
        """
        with self._lock:
            if self._in_hand == 0:
                self._take()
            self._in_hand += 1
            session = self._session
        try:
            yield session
        finally:
            with self._lock:
                self._in_hand -= 1
                if self._in_hand == 0:
                    self._release()
                    if self._is_closing:
                        self._end()

    @contextmanager
    def showing(self, claim: Claim) -> Iterator[None]:
        """Give signs of life of a claim for the block."""
        self._claims.add(claim)
        try:
            yield
        finally:
            self._claims.discard(claim)

    def start(self) -> None:
        """Begin to give signs of life, on a thread that ends with `close`."""
        threading.Thread(target=self._show, daemon=True).start()

    def close(self) -> None:
        """Let go of the database, as soon as no part is in hand any more."""
        with self._lock:
            self._is_closing = True
            if self._in_hand == 0:
                self._end()

    def _end(self) -> None:
        self._ended.set()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._catalog.close()

    def _show(self) -> None:
        """Give a sign of life of each claim, and see that the lock is still held, every few seconds."""
        while not self._ended.wait(SEEN_SECONDS):
            with self._lock:
                if self._in_hand and not self._is_held():
                    self._lost()
            for claim in list(self._claims):  # each in a transaction: locks of several would wait for one another
                with suppress(ReconcileError), self._catalog.write() as connection:
                    mine = sa.update(claims).where(claims.c.token == claim.token)
                    connection.execute(mine.values(seen_at=database_now(connection)))

    def _is_held(self) -> bool:
        assert self._connection is not None  # noqa: S101 - a part is in hand
        try:
            with self._connection.begin():
                self._catalog.settle(self._connection)
                return _is_at_work(self._connection, self._session)
        except SQLAlchemyError:
            return False

    def _take(self) -> None:
        """Take the lock. A session that has gone since the last part is replaced."""
        try:
            self._try()
        except CatalogError:
            self._drop()
            self._try()

    def _try(self) -> None:
        with translated():
            if self._connection is None:
                self._connection = self._catalog.engine.connect()
                refuse_pooler(self._catalog, self._connection)
                keep_session(self._catalog, self._connection)
            with self._connection.begin():
                self._catalog.settle(self._connection)
                taken = self._connection.execute(sa.select(sa.func.pg_try_advisory_lock_shared(*WORKERS))).scalar_one()
                self._session = int(self._connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())
        if not taken:
            raise SupersededError("the phase that this part belongs to has ended")

    def _release(self) -> None:
        """Give the lock back. Where that fails the session is gone, and the lock with it."""
        if self._connection is None:
            return
        try:
            with self._connection.begin():
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock_shared(*WORKERS)))
        except SQLAlchemyError:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def keep_workers_out(lock: RunLock, wait: float, check: Callable[[], None] = lambda: None) -> None:
    """Wait up to so many seconds until no worker has a part in hand; from then on none takes one.

    Comes before whatever must not meet a late worker. Raises `LockedError` naming those at work (exit 10).
    """
    deadline = time.monotonic() + wait
    while not lock.keep_workers_out():
        if time.monotonic() >= deadline:
            raise LockedError(
                f"a worker still has a part of a run in hand: {'; '.join(lock.workers_at_work())}. It is slow, or was"
                " stopped; until it ends nothing is switched or deleted",
                hint="let it go on, or end its process on its machine (kill -9, delete its pod): to end its database"
                " process is not enough, it would go on writing; then run the same command again",
            )
        check()
        time.sleep(_POLL_SECONDS)
