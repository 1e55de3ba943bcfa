"""Deletes that may still arrive: requests that earlier executors sent and that were not answered.

A request that waits somewhere between here and a server cannot be recalled. So an executor that takes over records what
may be deleted yet, and how long such a request lives. A run that is about to point rows at one of these places first
waits until that time has passed by the server's own clock, and looks at its copies after that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.catalog.services import database_now
from reconcile.control import Control
from reconcile.errors import LockedError
from reconcile.formatting import count
from reconcile.logs import get_logger
from reconcile.running.record.states import Deleting, MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import late_deletes, moves, places, runs
from reconcile.stores import Address, Store
from reconcile.stores.addresses import Key

_POLL_SECONDS = 0.5
_SAY_SECONDS = 10
HANDLING_SECONDS = 30  # that a server may take for a request which arrived in time; it tells time in whole seconds
_KEPT_SECONDS = 86400  # no request lives so long: a note this old is of no use

log = get_logger()


def note(connection: Connection, address: Address, keys: Sequence[Key], *, answered: bool) -> None:
    """Record that these keys may still be deleted. ``answered`` False: it will not be known whether they were."""
    life = sa.select(sa.func.max(places.c.life)).where(places.c.store == address.identity)
    seconds = connection.execute(life).scalar_one()
    if not seconds:
        return  # nothing arrives late there
    fixed = {"store": address.identity, "life": seconds, "noted_at": database_now(connection), "answered": answered}
    rows = [fixed | {"url": address.url_at(key), "id": secrets.token_hex(16)} for key in keys]
    connection.execute(late_deletes.insert(), rows)


def settle(connection: Connection, address: Address, keys: Sequence[Key]) -> None:
    """Remove notes: these deletes were answered."""
    mine = late_deletes.c.url.in_([address.url_at(key) for key in keys])
    here = late_deletes.c.store == address.identity
    connection.execute(sa.delete(late_deletes).where(here, mine, late_deletes.c.answered))


def note_marked(connection: Connection, ended: Sequence[str]) -> None:
    """Write down, as a new executor, all that the executors which have just ended (by their tokens) had marked.

    A run that has switched marks sources, any other one copies. Of a run that was deleting, what is not recorded as
    deleted counts too: the record may be a restored one, without the last marks.
    """
    now = database_now(connection)
    connection.execute(sa.delete(late_deletes).where(late_deletes.c.noted_at < now - _KEPT_SECONDS))
    connection.execute(sa.update(late_deletes).values(answered=False))  # who waited for the answer is gone
    not_cleaned = sa.and_(
        runs.c.phase == Deleting.CLEANING, moves.c.state == MoveState.STAGED, moves.c.cleaned.is_(None)
    )
    not_dropped = sa.and_(runs.c.phase == Deleting.DROPPING, moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN)))
    unfinished = runs.c.state.in_((RunState.STAGING, RunState.SWITCHED, RunState.UNDOING))
    deleting = (moves.c.cleaned == Removal.MARKED) | not_cleaned | not_dropped
    _note_moves(connection, runs.c.token.in_(ended) & unfinished & deleting)


def note_marked_of(connection: Connection, run_id: str) -> None:
    """Write down all that workers of a run have marked: the run ends early, and nobody hears of what they sent."""
    _note_moves(connection, (runs.c.run_id == run_id) & (moves.c.cleaned == Removal.MARKED))


def _note_moves(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    """Write down sources of runs that have switched, and copies of others: those of moves that meet the condition."""
    now = database_now(connection)
    is_clean = runs.c.switched_at.is_not(None)
    url = sa.case((is_clean, moves.c.before_url), else_=moves.c.after_url)
    name = sa.case((is_clean, moves.c.source), else_=moves.c.dest)
    columns = (_random(url), places.c.store, url, places.c.life, sa.literal(now, sa.BigInteger), sa.false())
    marked = (
        sa.select(*columns)
        .join_from(runs, moves, moves.c.run_id == runs.c.run_id)
        .join(places, sa.and_(places.c.run_id == moves.c.run_id, places.c.name == name))
        .where(which, places.c.life > 0)
    )
    names = ["id", "store", "url", "life", "noted_at", "answered"]
    connection.execute(late_deletes.insert().from_select(names, marked))


def _random(url: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return an expression that differs for each row, on both databases."""
    return sa.func.md5(sa.cast(sa.func.random(), sa.Text).concat(url))


def note_all(connection: Connection, run_id: str) -> None:
    """Write down all of a run, at both places: for a restored database, which does not know what was under way."""
    now = database_now(connection)
    for name, url in ((moves.c.source, moves.c.before_url), (moves.c.dest, moves.c.after_url)):
        columns = (_random(url), places.c.store, url, places.c.life, sa.literal(now, sa.BigInteger), sa.false())
        rows = (
            sa.select(*columns)
            .join_from(moves, places, sa.and_(places.c.run_id == moves.c.run_id, places.c.name == name))
            .where(moves.c.run_id == run_id, places.c.life > 0)
        )
        names = ["id", "store", "url", "life", "noted_at", "answered"]
        connection.execute(late_deletes.insert().from_select(names, rows))


def concerns(run_id: str, store: str) -> sa.ColumnElement[bool]:
    """Return the condition that a note is of one of the run's copies there, which rows are about to be pointed at."""
    here = sa.and_(moves.c.run_id == run_id, moves.c.state == MoveState.STAGED, moves.c.dest_store == store)
    return (late_deletes.c.store == store) & late_deletes.c.url.in_(sa.select(moves.c.after_url).where(here))


def concerns_sources(run_id: str, store: str) -> sa.ColumnElement[bool]:
    """Return the condition that a note is of one of the run's sources there, whose copies are about to be deleted."""
    names = sa.select(places.c.name).where(places.c.run_id == run_id, places.c.store == store)
    here = sa.and_(moves.c.run_id == run_id, moves.c.source.in_(names))
    return (late_deletes.c.store == store) & late_deletes.c.url.in_(sa.select(moves.c.before_url).where(here))


def wait(
    catalog: Catalog,
    run_id: str,
    stores: Mapping[str, Store],
    control: Control,
    most: float | None,
    which: Callable[[str, str], sa.ColumnElement[bool]] = concerns,
) -> bool:
    """Wait until nothing can arrive any more at the run's copies; return whether there was anything to wait for.

    ``which`` is the condition of what concerns the run: `concerns_sources` for its sources.

    ``most`` is how many seconds may be waited, None: as long as it takes. Raises `LockedError` (exit 10) where that is
    not enough, and what `Control.check` raises. No transaction is open meanwhile.
    """
    waited = False
    for store in stores.values():
        concerned = which(run_id, store.address.identity)
        documents = _documents(catalog, store.address, concerned)
        if documents:
            waited = True
            _wait_for(catalog, store, concerned, documents, control, most)
    return waited


def _documents(catalog: Catalog, address: Address, concerned: sa.ColumnElement[bool]) -> int:
    here = late_deletes.c.store == address.identity
    with catalog.read(bulk=True) as connection:
        if connection.execute(sa.select(late_deletes.c.url).where(here).limit(1)).first() is None:
            return 0
        catalog.favour_hash_joins(connection)
        query = sa.select(sa.func.count(late_deletes.c.url.distinct())).where(here, concerned)
        return int(connection.execute(query).scalar_one())


def _wait_for(
    catalog: Catalog,
    store: Store,
    concerned: sa.ColumnElement[bool],
    documents: int,
    control: Control,
    most: float | None,
) -> None:
    identity = store.address.identity
    until = _until(catalog, store, concerned)
    left = until - _now(store)
    what = (
        f"delete requests of an earlier process for {count(documents)} at {identity} may still arrive; the "
        f"last one expires at {datetime.fromtimestamp(until, UTC):%F %T} UTC by that server's clock"
    )
    if most is not None and left > most:
        raise LockedError(
            f"{what}, in {left:,.0f} s. Nothing was switched or deleted; all that is staged stays staged",
            hint="run the same command again after that, or without --takeover-wait: it then waits by itself",
        )
    log.info("waiting for late deletes", phase="wait", at=identity, documents=documents, seconds=round(left))
    control.progress.say(f"{what}. Waiting until then; the catalog does not change, and services may run")
    while left > 0:
        said = time.monotonic()
        while time.monotonic() - said < min(left, _SAY_SECONDS):
            control.check()
            time.sleep(min(_POLL_SECONDS, max(left, 0.01)))
        left = until - _now(store)
        if left > 0:
            control.progress.say(f"waiting: {left:,.0f} s left")
    with catalog.write(bulk=True) as connection:
        over = sa.and_(late_deletes.c.store == identity, late_deletes.c.until <= until)
        connection.execute(sa.delete(late_deletes).where(over))


def _until(catalog: Catalog, store: Store, concerned: sa.ColumnElement[bool]) -> int:
    """Return when the last request has expired, by the server's clock.

    What is on record was sent before we asked the server for its time, so from then on its life counts.
    """
    here = late_deletes.c.store == store.address.identity
    now = int(_now(store)) + 1
    with catalog.write(bulk=True) as connection:
        catalog.favour_hash_joins(connection)
        expires = sa.update(late_deletes).where(here, late_deletes.c.until.is_(None))
        connection.execute(expires.values(until=now + late_deletes.c.life + HANDLING_SECONDS))
        last = sa.select(sa.func.max(late_deletes.c.until)).where(here, concerned)
        return int(connection.execute(last).scalar_one())


def _now(store: Store) -> float:
    """Return the server's time; ours where it tells none."""
    return store.server_time() or time.time()
