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
from reconcile.catalog.lock import WORKERS, RunLock, refuse_pooler
from reconcile.catalog.services import database_now
from reconcile.errors import LockedError, ReconcileError, SupersededError
from reconcile.running.record.tables import claims

SEEN_SECONDS = 5.0  # between two signs of life of a worker
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


def claim(connection: Connection, run_id: str, first: int, worker: str) -> Claim:
    """Claim a part for a worker, whoever had it before."""
    from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - there are no workers on SQLite

    now = database_now(connection)
    new = {"token": secrets.token_hex(16), "worker": worker, "claimed_at": now, "seen_at": now}
    statement = insert(claims).values(run_id=run_id, first=first, **new)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "first"], set_=new))
    return Claim(run_id, first, str(new["token"]))


def end_claims(connection: Connection, run_id: str) -> None:
    """End all claims on a run: their phase is over."""
    connection.execute(sa.delete(claims).where(claims.c.run_id == run_id))


def seen_lately(connection: Connection, run_id: str, seconds: float) -> set[int]:
    """Return the first numbers of parts whose workers gave a sign of life lately."""
    lately = database_now(connection) - int(seconds)
    query = sa.select(claims.c.first).where(claims.c.run_id == run_id, claims.c.seen_at >= lately)
    return set(connection.execute(query).scalars())


class AtWork:
    """That this process has parts in hand: a shared lock of a session of its own, and signs of life of its claims."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._claims = set[Claim]()
        self._in_hand = 0
        self._connection: Connection | None = None
        self._woken = threading.Event()

    @contextmanager
    def part(self) -> Iterator[None]:
        """Hold the lock for the block. Raises `SupersededError` where workers are kept out."""
        with self._lock:
            if self._in_hand == 0:
                self._take()
            self._in_hand += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_hand -= 1
                if self._in_hand == 0:
                    self._release()

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
        """End."""
        self._woken.set()
        with self._lock:
            self._release()

    def _show(self) -> None:
        while not self._woken.wait(SEEN_SECONDS):
            tokens = [claim.token for claim in list(self._claims)]
            if tokens:
                with suppress(ReconcileError), self._catalog.write() as connection:
                    mine = sa.update(claims).where(claims.c.token.in_(tokens))
                    connection.execute(mine.values(seen_at=database_now(connection)))

    def _take(self) -> None:
        if self._connection is not None and self._connection.invalidated:
            self._release()
        if self._connection is None:
            self._connection = self._catalog.engine.connect()
            refuse_pooler(self._catalog, self._connection)
        taken = sa.select(sa.func.pg_try_advisory_lock_shared(*WORKERS))
        with translated(), self._connection.begin():
            self._catalog.settle(self._connection)
            if not self._connection.execute(taken).scalar_one():
                raise SupersededError("the phase that this part belongs to has ended")

    def _release(self) -> None:
        """Give the lock back. Where that fails the session is gone, and the lock with it."""
        if self._connection is None:
            return
        try:
            with self._connection.begin():
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock_shared(*WORKERS)))
        except SQLAlchemyError:
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
                hint="let it go on, or end it, such as by SELECT pg_terminate_backend(its database process);"
                " then run the same command again",
            )
        check()
        time.sleep(_POLL_SECONDS)
