"""Who lays claim to a place: catalog rows, under whatever spelling of a URL, and what runs have staged or kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog, CatalogRow
from reconcile.catalog.rows import stream_rows, streamed
from reconcile.catalog.tables import archive_metadata
from reconcile.planning.decide import DesiredState
from reconcile.running.phases.references import decode_key, referred_by_other_names
from reconcile.running.record.states import MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import moves, runs
from reconcile.stores import Address, Location

_READ_AHEAD = 5000


class Claim(IntEnum):
    """Whose a place is; of several claims the lowest counts."""

    ROW = 0
    STAGED = 1  # by a run that has not switched
    KEPT = 2  # by a run that has, as a source


def claims(catalog: Catalog, desired: DesiredState, addresses: Sequence[Address]) -> Iterator[tuple[Location, Claim]]:
    """Yield every claim to a place of these addresses, and some to others.

    One snapshot tells all: a run that switches meanwhile is seen either wholly before its switch or wholly after it.
    """
    has_runs = catalog.has_table(moves)
    with catalog.snapshot() as connection:
        for row in stream_rows(connection, archive_metadata.c.content_url.is_not(None), ordered=False):
            for address in addresses:
                for key in address.keys(row.content_url or "", row.document):
                    yield address.location(key), Claim.ROW
        if has_runs:
            yield from _staged(connection)
            yield from _kept(connection, desired)
    for location in referred_by_other_names(catalog, addresses):
        yield location, Claim.ROW


def _staged(connection: Connection) -> Iterator[tuple[Location, Claim]]:
    """Yield what unfinished runs have staged, are staging, or have adopted; dropped copies too, until they are gone."""
    query = (
        sa.select(moves.c.dest_store, moves.c.dest_key)
        .join(runs, runs.c.run_id == moves.c.run_id)
        .where(
            runs.c.state.in_((RunState.STAGING, RunState.UNDOING)),
            runs.c.switched_at.is_(None),
            moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN, Origin.ADOPTED)),
        )
    )
    for store, key in connection.execute(query, execution_options=streamed(_READ_AHEAD)):
        yield Location(store, decode_key(key)), Claim.STAGED


def _kept(connection: Connection, desired: DesiredState) -> Iterator[tuple[Location, Claim]]:
    """Yield the sources that runs have switched away from, and have not deleted, or not yet."""
    columns = moves.c
    query = (
        sa.select(
            *(columns.user_id, columns.bucket, columns.archive_id, columns.document_name, columns.before_url),
            *(columns.before_is_compressed, columns.before_digest, columns.before_size, columns.before_last_updated),
        )
        .join(runs, runs.c.run_id == columns.run_id)
        .where(
            runs.c.state.in_((RunState.SWITCHED, RunState.DONE, RunState.UNDOING)),
            runs.c.switched_at.is_not(None),
            columns.state == MoveState.STAGED,
            columns.cleaned.is_distinct_from(Removal.DELETED),
        )
    )
    for row in connection.execute(query, execution_options=streamed(_READ_AHEAD)):
        location = desired.locate(CatalogRow(*row))
        if location is not None:
            yield location, Claim.KEPT
