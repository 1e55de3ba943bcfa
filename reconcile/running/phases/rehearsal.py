"""Rehearsal: what the database's own rules would do to a run, tried on a few of its rows and rolled back.

It takes place before anything is copied, and only where there are such rules. What it cannot see (a rule that minds
other rows than those tried) the switch sees before it commits, and a write before it is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from reconcile.catalog.rules import Rule, fire_deferred, meddled, row_sum, rules_of
from reconcile.catalog.tables import archive_metadata
from reconcile.logs import get_logger
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, Removal, RunState
from reconcile.running.record.tables import as_before, moves, same_row
from reconcile.running.record.work_moves import WorkMove, work_move
from reconcile.secret import scrub
from reconcile.stores import Store
from reconcile.stores.addresses import Key
from reconcile.stores.table_rules import rehearse_content, rules_of_store

_ROWS = 20
_LARGEST = 64 << 10  # bytes: content that is read, deleted and inserted
_LOCK_SECONDS = 2  # that services are kept waiting for, and that we wait for them

log = get_logger()


class _RolledBack(Exception):  # noqa: N818 - ends the transaction
    """The trial is over."""


def rehearse(run: Run, stores: Mapping[str, Store]) -> None:
    """Raise `CatalogError` naming the rules if the database would not keep what the run writes, or change more."""
    with suppress(_RolledBack), run.catalog.write(bulk=True) as connection:
        rules = rules_of(connection, archive_metadata.name, "UPDATE")
        of_stores = [rule for store in stores.values() for rule in rules_of_store(connection, store)]
        if rules or of_stores:
            log.info("the database has rules of its own", rules=[rule.describe() for rule in rules + of_stores])
            try:
                _rehearse(connection, run, stores, rules)
            except OperationalError as error:
                if getattr(error.orig, "pgcode", None) != "55P03":  # a service is at work on one of the rows
                    raise
                log.warning(
                    "the database's rules could not be tried because rows are locked; the switch checks their effect"
                )
            except DBAPIError as error:
                refusal = scrub(str(error.orig).strip().partition("\n")[0])
                raise meddled(
                    rules + of_stores, f"the database refused a trial of this run's writes: {refusal}; nothing was done"
                ) from None
        raise _RolledBack


def _rehearse(connection: Connection, run: Run, stores: Mapping[str, Store], rules: list[Rule]) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
    run.catalog.favour_hash_joins(connection)
    sample = _sample(connection, run)
    tried = sa.and_(moves.c.run_id == run.run_id, moves.c.seq.in_([work.seq for work in sample]))
    rest = _rest(connection, tried)
    if run.record.state == RunState.STAGING:
        _switch(connection, tried, rules)
        if _rest(connection, tried) != rest:
            raise meddled(rules, "in a trial that was rolled back, a switch changed other columns or rows too")
    for name, store in stores.items():
        keys = [key for work in sample for place, key in _places(work, stores) if place == name]
        if keys:
            rehearse_content(connection, store, keys)
            if _rest(connection, tried) != rest:
                what = (
                    "in a trial that was rolled back, rows of archive_metadata changed as content was "
                    f"added to {name} or deleted"
                )
                raise meddled(rules_of_store(connection, store), what)


def _places(work: WorkMove, stores: Mapping[str, Store]) -> list[tuple[str, Key]]:
    """Return where a move's content is, and where its copy will be: names of backends and keys there."""
    move = work.move
    both = ((move.source, move.before.content_url), (move.dest, move.after.content_url))
    return [(name, stores[name].address.keys(url, move.document)[0]) for name, url in both]


def _sample(connection: Connection, run: Run) -> list[WorkMove]:
    query = (
        sa.select(moves)
        .where(moves.c.run_id == run.run_id, moves.c.state.in_((MoveState.PLANNED, MoveState.STAGED)))
        .where(moves.c.cleaned.is_distinct_from(Removal.DELETED), sa.func.coalesce(moves.c.before_size, 0) <= _LARGEST)
        .order_by(moves.c.seq)
        .limit(_ROWS)
    )
    return [work_move(row) for row in connection.execute(query)]


def _switch(connection: Connection, tried: sa.ColumnElement[bool], rules: list[Rule]) -> None:
    """Repoint the sample as the switch would, the other location columns to what they are."""
    mine = sa.and_(tried, same_row(archive_metadata))
    unchanged = sa.and_(mine, as_before(archive_metadata))
    repointed = sa.and_(mine, archive_metadata.c.content_url == moves.c.after_url)
    count = sa.select(sa.func.count()).select_from(moves)
    wanted = connection.execute(count.where(unchanged)).scalar_one()
    connection.execute(
        sa.update(archive_metadata)
        .where(unchanged)
        .values(
            content_url=moves.c.after_url,
            is_compressed=moves.c.before_is_compressed,
            digest=moves.c.before_digest,
            size=moves.c.before_size,
        )
    )
    fire_deferred(connection)
    held = connection.execute(count.where(repointed)).scalar_one()
    if held < wanted:
        raise meddled(
            rules, f"in a trial that was rolled back, {held:,} of {wanted:,} catalog rows held what a switch writes"
        )


def _rest(connection: Connection, tried: sa.ColumnElement[bool]) -> int:
    """Return a checksum of all that the trial is to leave as it is."""
    joined = archive_metadata.outerjoin(moves, sa.and_(tried, same_row(archive_metadata)))
    return row_sum(connection, archive_metadata, joined, moves.c.seq.is_not(None), ("content_url",))
