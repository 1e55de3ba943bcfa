"""Undo with changes: rows that services overwrote or added since go back as they are now.

Rows that are as the run left them get their pinned reverse move; rows that are gone are left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog, CatalogRow, Scope
from reconcile.catalog.rows import stream_rows
from reconcile.catalog.tables import archive_metadata
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import Blocker, Move
from reconcile.planning.planfile import PlanFile, new_plan, open_plan
from reconcile.planning.planner import add_decision
from reconcile.planning.summary import Counts
from reconcile.running.phases.undo_plan import CLOCK_SKEW_SECONDS, reverse, staged_moves, undo_header
from reconcile.running.record.in_place import of_no_other_run
from reconcile.running.record.records import RunRecord
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import moves, same_row


def plan_with_changes(catalog: Catalog, record: RunRecord, desired: DesiredState, undo_plan: Path) -> PlanFile:
    """Write the undo plan of a run with all that happened since, beside the plain one; return it.

    ``desired`` leads from where the run moved documents to where they were.
    """
    compression = undo_plan.suffix if undo_plan.suffix in (".gz", ".zst") else ""
    stem = undo_plan.name.removesuffix(compression).removesuffix(".json")
    path = undo_plan.with_name(f"{stem}-with-changes.json{compression}")
    counts = Counts(desired)
    with catalog.snapshot() as connection, new_plan(path, replace=True) as writer:
        catalog.favour_hash_joins(connection)
        for decision in _decisions(connection, record, desired):
            add_decision(decision, writer, counts)
        header = undo_header(record, counts.summary([]), record.switched_at or 0, with_changes=True)
        digest = writer.save(header)
    return open_plan(path, digest)


def _decisions(connection: Connection, record: RunRecord, desired: DesiredState) -> Iterator[Move | Blocker]:
    """Merge the catalog with the run's record; both come in the order of the row's key."""
    scope = Scope.of(record.header.scope)
    recorded = staged_moves(connection, record)
    work = next(recorded, None)
    mine = sa.exists().where(
        moves.c.run_id == record.run_id, moves.c.state == MoveState.STAGED, same_row(archive_metadata)
    )
    theirs = sa.and_(scope.condition(), ~mine, of_no_other_run(record))  # ours are ours whatever their size is by now
    somewhere = archive_metadata.c.content_url.is_not(None)
    rows = (stream_rows(connection, somewhere & which) for which in (mine, theirs))
    for row in heapq.merge(*rows, key=attrgetter("key")):
        key = row.key
        while work is not None and work.move.row_key < key:
            work = next(recorded, None)
        if work is not None and work.move.row_key == key:
            back = reverse(work)
            if back.row() == row:
                yield back
                continue
        elif (row.last_updated or 0) < (record.switched_at or 0) - CLOCK_SKEW_SECONDS:
            continue  # was there before the run, and none of its business
        yield from _as_it_is(row, desired)


def _as_it_is(row: CatalogRow, desired: DesiredState) -> Iterator[Move | Blocker]:
    decision = desired.decide(row)
    if isinstance(decision, (Move, Blocker)):
        yield decision
