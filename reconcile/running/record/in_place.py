"""Rows that were at a destination before a run, or that other runs moved there: no undo of the run concerns them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog.tables import archive_metadata
from reconcile.running.record.records import RunRecord
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import in_place, moves, runs, same_row


def record_in_place(connection: Connection, run_id: str, heads: Iterable[str]) -> None:
    """Write down the rows whose URLs begin as those of the run's destinations do, and that it does not move.

    What is on record of earlier runs is not written again: many runs, each with a part of the archive, do not add up.
    """
    row = archive_metadata.c
    number = sa.select(runs.c.number).where(runs.c.run_id == run_id).scalar_subquery()
    mine = sa.exists().where(moves.c.run_id == run_id, same_row(archive_metadata))
    is_known = sa.exists().where(*_same_row_as(in_place))
    begins = sa.or_(*(sa.func.substr(row.content_url, 1, len(head)) == head for head in sorted(set(heads))))
    columns = (number, row.userId, row.bucket, row.archiveId, row.documentName, row.created_at)
    rows = sa.select(*columns).where(begins, ~mine, ~is_known, ~_moved_by_runs(sa.true()))
    names = ["since", "user_id", "bucket", "archive_id", "document_name", "created_at"]
    connection.execute(in_place.insert().from_select(names, rows))


def of_no_other_run(record: RunRecord) -> sa.ColumnElement[bool]:
    """Return the condition that a catalog row was not in place before a run began, nor moved there by another one.

    Both at its top: within an "or", PostgreSQL would evaluate them anew for each row.
    """
    before = sa.exists().where(*_same_row_as(in_place), in_place.c.since <= record.number)
    return sa.and_(~before, ~_moved_by_runs(runs.c.run_id != record.run_id))


def _same_row_as(table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """Return the join by key; a row that was deleted and added again has another time of creation."""
    row = archive_metadata.c
    return [
        table.c.user_id == row.userId,
        table.c.bucket == row.bucket,
        table.c.archive_id == row.archiveId,
        table.c.document_name == row.documentName,
        table.c.created_at.is_not_distinct_from(row.created_at),
    ]


def _moved_by_runs(which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that a run which stands has moved a row to where it is."""
    theirs = moves.alias("theirs")
    row = archive_metadata.c
    return sa.exists().where(
        theirs.c.run_id == runs.c.run_id,
        runs.c.state.in_((RunState.SWITCHED, RunState.DONE)),
        runs.c.undo_of.is_(None),
        which,
        theirs.c.state == MoveState.STAGED,
        theirs.c.user_id == row.userId,
        theirs.c.bucket == row.bucket,
        theirs.c.archive_id == row.archiveId,
        theirs.c.document_name == row.documentName,
        theirs.c.after_url == row.content_url,
    )
