"""A database that is older than its stores: restored from a backup, or a standby that lacks the switch.

Its rows lead to sources that a run has deleted since, and the run's copies are there. Applying the plan again leads the
rows to the copies; undoing the run would delete them, which rollback refuses.
"""

from __future__ import annotations

import sqlalchemy as sa

from reconcile.catalog import Catalog
from reconcile.errors import ReconcileError
from reconcile.formatting import count
from reconcile.planning.decide import DesiredState
from reconcile.running.phases.context import StorePool, open_stores
from reconcile.running.phases.counterparts import look_at_copies, look_at_sources
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.configs import configs_of
from reconcile.running.record.records import RunRecord
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import moves
from reconcile.running.record.work_moves import work_move

_SAMPLE = 20


def older_than_stores(catalog: Catalog, record: RunRecord, desired: DesiredState | None = None) -> str | None:
    """Return in words that the database is older than its stores, as a sample of a staged run shows; else None.

    ``desired`` are the run's configs, by default those at the paths on record. None, too, where that
    cannot be found out. Writes nothing and takes no lock.
    """
    if record.state not in (RunState.STAGING, RunState.UNDOING) or record.switched_at is not None:
        return None
    run = Run(catalog, record, epoch=0)
    query = (
        sa.select(moves)
        .where(moves.c.run_id == record.run_id, moves.c.state == MoveState.STAGED)
        .order_by(moves.c.seq)
        .limit(_SAMPLE)
    )
    try:
        with catalog.read(bulk=True) as connection:
            sample = [work_move(row) for row in connection.execute(query)]
        if not sample:
            return None
        desired = desired or configs_of(record.header, None, None)
        stores = open_stores(run, StorePool.of(run, desired, RunOptions()), create=False)
        looked = look_at_sources(run, desired, stores, sample)
        if not looked.concerned or looked.absent != looked.concerned:
            return None
        copies = look_at_copies(run, desired, stores, sample, of_rows=False)
    except ReconcileError:
        return None
    if copies.absent == copies.concerned:
        return None
    return (
        f"this database is older than the stores: of {count(len(sample), 'staged document')} that were "
        f"checked, no source exists, but {len(copies.concerned - copies.absent):,} of their copies do. "
        "Applying the plan again brings the catalog up to date"
    )
