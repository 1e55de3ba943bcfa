"""Forget: remove a finished run's records, and what only they record.

A run and its undo are removed together: each explains the other's state. What is lost with them is counted and shown
before: the way back, content that no row refers to, and which of two endpoints holds a document.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.catalog.tables import archive_metadata
from reconcile.errors import ReconcileError
from reconcile.running.record.executor import executing
from reconcile.running.record.identity import check_database
from reconcile.running.record.next_steps import next_step
from reconcile.running.record.records import RunRecord, find_runs, remove_records, run_record
from reconcile.running.record.states import MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import WORK, moves, runs


@frozen
class Forgettable:
    """What is removed, and what is lost with it.

    ``undoable`` are runs that could be undone until now. ``ownerless`` counts sources and copies that only these
    records list, ``same_url`` documents whose endpoint only these records have.
    """

    records: tuple[RunRecord, ...]
    undoable: tuple[str, ...]
    ownerless: int
    same_url: int
    last: bool


def forgettable(catalog: Catalog, run_id: str) -> Forgettable:
    """Return what would be removed with a run. Raises `ReconcileError` for one that is unfinished or unknown."""
    record = run_record(catalog, run_id)
    first = record if record.undo_of is None else run_record(catalog, record.undo_of)
    together = [first, *find_runs(catalog, undo_of=first.run_id)]
    for other in together:
        if other.state not in (RunState.DONE, RunState.UNDONE):
            raise ReconcileError(
                f"run {other.run_id} is not finished ({other.state}), and needs its records to resume; "
                "nothing was removed",
                hint=next_step(other, {}),
            )
    with catalog.snapshot() as connection:
        catalog.favour_hash_joins(connection)
        ids = [other.run_id for other in together]
        total = connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()
        return Forgettable(
            records=tuple(together),
            undoable=tuple(r.run_id for r in together if r.state == RunState.DONE and r.undo_of is None),
            ownerless=_ownerless(connection, ids),
            same_url=_same_url(connection, ids) if first.state == RunState.DONE else 0,
            last=total == len(together),
        )


def forget(catalog: Catalog, run_id: str, *, force: bool = False, lock_wait: float = 15) -> Forgettable:
    """Remove a finished run's records in one transaction; with the last one, the work tables.

    Raises `ReconcileError` where only the records have which endpoint holds a document, unless ``force``.
    """
    check_database(catalog, run_record(catalog, run_id))
    with executing(catalog, lock_wait) as executor:
        found = forgettable(catalog, run_id)
        refuse_same_url(found, force=force)
        ids = [record.run_id for record in found.records]
        with catalog.write(bulk=True) as connection:
            executor.guard(connection)
            if found.last:
                WORK.drop_all(connection)
            else:
                remove_records(connection, ids)
    return found


def refuse_same_url(found: Forgettable, *, force: bool) -> None:
    """Raise `ReconcileError` where the catalog alone does not have where documents are."""
    if found.same_url and not force:
        raise ReconcileError(
            f"{found.same_url:,} documents kept their URL but moved to another endpoint: only this run's "
            "records show which endpoint holds them; nothing was removed",
            hint="keep the records; or give --force, once no config but the services' present one will be used",
        )


def _ownerless(connection: Connection, ids: Sequence[str]) -> int:
    """Count kept sources of switched runs, and copies that the undo of others left, that no row refers to.

    A run that was taken back has nothing of its own any more; what is left is its undo's to tell.
    """
    referred = sa.exists().where(archive_metadata.c.content_url == moves.c.before_url)
    sources = (
        runs.c.state == RunState.DONE,
        moves.c.state == MoveState.STAGED,
        moves.c.cleaned.is_distinct_from(Removal.DELETED),
        ~referred,
    )
    copies = (
        runs.c.state == RunState.UNDONE,
        runs.c.switched_at.is_(None),
        moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN)),
    )
    theirs = sa.select(sa.func.count()).join_from(moves, runs, runs.c.run_id == moves.c.run_id)
    queries = [theirs.where(moves.c.run_id.in_(ids), *conditions) for conditions in (sources, copies)]  # one anti-join
    return sum(int(connection.execute(query).scalar_one()) for query in queries)


def _same_url(connection: Connection, ids: Sequence[str]) -> int:
    query = sa.select(sa.func.count()).where(
        moves.c.run_id.in_(ids), moves.c.state == MoveState.STAGED, moves.c.before_url == moves.c.after_url
    )
    return int(connection.execute(query).scalar_one())
