"""Claims: which worker works on which part, by a random token that locks what it records.

A part may be given to two workers: an engine lost it, or one of them was stopped for a while. The later claim holds;
an earlier claimant can record nothing more. An active worker holds a shared advisory lock in its
session: what must not meet a late worker (the switch, every delete) takes that lock for itself first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.lock import RunLock, holds_workers_lock
from reconcile.catalog.services import database_now
from reconcile.errors import BusyError, LockedError, SupersededError
from reconcile.running.record.tables import claims, runs

STALE_SECONDS = 30  # without a sign of life of a worker, after which its part may be another's
_POLL_SECONDS = 0.25


@frozen
class Claim:
    """A worker's hold on a part of a run.

    ``taken_from`` are the folders of workers that had it before, and may have left files there.
    """

    run_id: str
    first: int
    token: str
    taken_from: frozenset[str] = frozenset()

    def guard(self, connection: Connection) -> None:
        """Raise `SupersededError` unless the part is still this worker's; keeps it so until the transaction ends."""
        if connection.execute(sa.select(claims.c.token).where(*self._mine).with_for_update(read=True)).first() is None:
            raise SupersededError("another worker has taken this part over, or its phase has ended")

    def settle(self, connection: Connection, folder: str) -> None:
        """Record that nothing is left in the folders of those who had the part before."""
        connection.execute(sa.update(claims).where(*self._mine).values(folder=folder))

    def give_back(self, connection: Connection) -> None:
        """Give the claim up."""
        connection.execute(sa.delete(claims).where(*self._mine))

    @property
    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (claims.c.run_id == self.run_id, claims.c.first == self.first, claims.c.token == self.token)


def claim(
    connection: Connection, run_id: str, parts: str, first: int, *, worker: str, session: int, folder: str
) -> Claim:
    """Claim a part of the phase ``parts`` for a worker, whose shared lock is of the database process ``session``.

    ``folder`` is the directory that it moves files aside to.
    Raises `BusyError` if another worker has it and was active recently, `SupersededError` if the phase is over.
    """
    from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - there are no workers on SQLite

    if (
        connection.execute(sa.select(runs.c.run_id).where(runs.c.run_id == run_id, runs.c.parts == parts)).first()
        is None
    ):
        raise SupersededError("the phase that this part belongs to has ended")
    now = database_now(connection)
    theirs = sa.select(claims.c.worker, claims.c.seen_at, claims.c.session, claims.c.folder).where(
        claims.c.run_id == run_id, claims.c.first == first
    )
    found = connection.execute(theirs.with_for_update()).first()
    if found is not None and now - found.seen_at <= STALE_SECONDS and holds_workers_lock(connection, found.session):
        raise BusyError(f"worker {found.worker} is working on it")
    before = set((found.folder or "").split()) if found is not None else set()
    folders = " ".join(sorted(before | {folder}))
    new = {"token": secrets.token_hex(16), "worker": worker, "session": session, "seen_at": now, "folder": folders}
    statement = insert(claims).values(run_id=run_id, first=first, **new)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "first"], set_=new))
    return Claim(run_id, first, str(new["token"]), frozenset(before))


def begin_parts(connection: Connection, run_id: str, engine: str) -> str:
    """Let workers claim parts of a run from now on; return the token of this phase."""
    parts = secrets.token_hex(16)
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(parts=parts, engine=engine))
    return parts


def end_parts(connection: Connection, run_id: str) -> None:
    """Let no worker claim a part from now on, and end all claims."""
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(parts=None))
    connection.execute(sa.delete(claims).where(claims.c.run_id == run_id))


def claimed(connection: Connection, run_id: str) -> dict[int, bool]:
    """Return the first numbers of the parts that are claimed, and whether their workers were active recently."""
    now = database_now(connection)
    query = sa.select(claims.c.first, claims.c.seen_at).where(claims.c.run_id == run_id)
    return {row.first: now - row.seen_at <= STALE_SECONDS for row in connection.execute(query)}


def keep_workers_out(lock: RunLock, wait: float, check: Callable[[], None] = lambda: None) -> None:
    """Wait up to so many seconds until no worker works on a part; from then on none takes one.

    Comes before anything that must not meet a late worker. Raises `LockedError` naming active workers (exit 10).
    """
    deadline = time.monotonic() + wait
    while not lock.keep_workers_out():
        if time.monotonic() >= deadline:
            raise LockedError(
                f"a worker is still working on a part of a run: {'; '.join(lock.workers_at_work())}. It is "
                "slow or was stopped; until it ends, nothing is switched or deleted",
                hint="let it finish, or end its process on its machine (kill -9, or delete its pod), then "
                "run the same command again. Ending only its database process is not enough: it would "
                "continue to write",
            )
        check()
        time.sleep(_POLL_SECONDS)
