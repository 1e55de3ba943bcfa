"""That a worker is at work: a lock that it shares with others, and signs of life of what it has in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from reconcile.catalog import Catalog
from reconcile.catalog.connect import translated
from reconcile.catalog.lock import WORKERS, holds_workers_lock, keep_session, refuse_pooler
from reconcile.catalog.services import database_now
from reconcile.errors import CatalogError, ReconcileError, SupersededError
from reconcile.running.record.claims import Claim
from reconcile.running.record.tables import claims

SEEN_SECONDS = 5.0  # between two signs of life


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
            if self._is_closing:
                raise SupersededError("the worker opens its run anew")
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

    def held(self) -> list[str]:
        """Return the tokens of the claims in hand."""
        return [claim.token for claim in tuple(self._claims)]

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
                return holds_workers_lock(self._connection, self._session)
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
