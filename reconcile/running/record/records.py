"""What the work tables record of runs; read only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import fields, frozen
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.errors import ReconcileError
from reconcile.planning.model import PlanHeader
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import claims, marks, moves, places, runs, samples, workers

StateCounts = dict[MoveState, tuple[int, int]]  # documents and bytes

_header = msgspec.json.Decoder(PlanHeader)


@frozen
class RunRecord:
    """One row of ``reconcile_runs``. Times are in Unix seconds by the database's clock."""

    run_id: str
    number: int
    plan_id: str
    plan_digest: str
    plan_path: str
    header: PlanHeader
    undo_of: str | None
    state: RunState
    keep_source: bool
    executor: str | None
    undo_path: str | None
    undo_digest: str | None
    remark: str | None
    created_at: int
    refreshed_at: int | None
    staged_at: int | None
    switched_at: int | None
    finished_at: int | None
    paused_at: int | None
    asked: str | None
    doing: str | None
    approved: str | None
    engine: str | None
    database: dict[str, Any]
    configs: dict[str, Any]

    @property
    def last_event(self) -> tuple[int, int]:
        """When it last changed, in Unix seconds, and its number: an undo may begin in the same second."""
        times = (self.created_at, self.refreshed_at, self.staged_at, self.switched_at, self.finished_at)
        return max(at for at in times if at is not None), self.number


_FIELDS = [field.name for field in fields(RunRecord)]


def _record(row: Any) -> RunRecord:  # noqa: ANN401 - a SQLAlchemy row of `runs`
    decoded = {
        "header": _header.decode(row.header),
        "state": RunState(row.state),
        "database": msgspec.json.decode(row.database) if row.database else {},
        "configs": msgspec.json.decode(row.configs) if row.configs else {},
    }
    return RunRecord(**{name: getattr(row, name) for name in _FIELDS if name not in decoded}, **decoded)


def find_runs(
    catalog: Catalog, *, run_id: str | None = None, plan_id: str | None = None, undo_of: str | None = None
) -> list[RunRecord]:
    """Return matching runs, the newest first; none where there are no work tables."""
    if not catalog.has_table(runs):
        return []
    known = catalog.columns_of(runs)  # an earlier version's table has fewer; reading adds none
    columns = [c if c.name in known else sa.null().label(c.name) for c in runs.columns]
    query = sa.select(*columns).order_by(runs.c.number.desc())
    for column, value in ((runs.c.run_id, run_id), (runs.c.plan_id, plan_id), (runs.c.undo_of, undo_of)):
        if value is not None:
            query = query.where(column == value)
    with catalog.read() as connection:
        return [_record(row) for row in connection.execute(query)]


def count_states(catalog: Catalog, run_id: str) -> StateCounts:
    """Return documents and bytes of a run by the state of their moves."""
    query = (
        sa.select(moves.c.state, sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0))
        .where(moves.c.run_id == run_id)
        .group_by(moves.c.state)
    )
    with catalog.snapshot() as connection:
        return {MoveState(row[0]): (int(row[1]), int(row[2])) for row in connection.execute(query)}


def backend_pairs(catalog: Catalog, run_id: str, *conditions: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
    """Return from which backends to which a run moves documents, those of moves that meet the conditions."""
    query = sa.select(moves.c.source, moves.c.dest).where(
        moves.c.run_id == run_id, moves.c.source.is_not(None), *conditions
    )
    with catalog.read(bulk=True) as connection:
        return [(source, dest) for source, dest in connection.execute(query.distinct())]


def count_linked(catalog: Catalog, run_id: str) -> int:
    """Count the files whose copies are hard links of them: their versions tell, which hold the inode."""
    both = sa.and_(moves.c.before_url.startswith("file://"), moves.c.after_url.startswith("file://"))
    query = sa.select(sa.func.count()).where(
        moves.c.run_id == run_id, both, moves.c.source_version == moves.c.copy_version, moves.c.cleaned.is_(None)
    )
    with catalog.read(bulk=True) as connection:
        return int(connection.execute(query).scalar_one())


def run_record(catalog: Catalog, run_id: str) -> RunRecord:
    """Return a run's record. Raises `ReconcileError` if there is no such run."""
    found = find_run(catalog, run_id)
    if found is None:
        raise ReconcileError(
            f"this database has no run {run_id}",
            hint="reconcile runs    lists them; the records of a run that was forgotten are gone",
        )
    return found


def find_run(catalog: Catalog, run_id: str) -> RunRecord | None:
    """Return a run's record; None if there is no such run."""
    found = find_runs(catalog, run_id=run_id)
    return found[0] if found else None


def latest_run_of(catalog: Catalog, plan_id: str) -> RunRecord | None:
    """Return the record of the last run that was begun by a plan; None if there is none."""
    found = find_runs(catalog, plan_id=plan_id)
    return found[0] if found else None


def remove_records(connection: Connection, run_ids: Sequence[str]) -> None:
    """Remove all records of runs. The words of owner marks stay known where another unfinished run has the place."""
    others = sa.select(places.c.store).join(runs, runs.c.run_id == places.c.run_id)
    in_hand = others.where(runs.c.state.not_in((RunState.DONE, RunState.UNDONE)), runs.c.run_id.not_in(run_ids))
    gone = places.c.run_id.in_(run_ids) & places.c.store.not_in(in_hand)
    connection.execute(sa.delete(places).where(gone))
    connection.execute(sa.delete(marks).where(marks.c.store.not_in(in_hand)))
    for table in (moves, samples, workers, claims, runs):
        connection.execute(sa.delete(table).where(table.c.run_id.in_(run_ids)))
