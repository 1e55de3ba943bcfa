"""Report on a run from its record in the work tables, in any state."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile._version import __version__
from reconcile.catalog import Catalog
from reconcile.catalog.services import Heartbeat
from reconcile.catalog.space import space_left
from reconcile.planning.model import ConfigReference
from reconcile.planning.places import role_of
from reconcile.running.record.crew import crew
from reconcile.running.record.details import why_kept_for_good
from reconcile.running.record.next_steps import resume_command, undo_command
from reconcile.running.record.records import RunRecord, count_states, find_runs
from reconcile.running.record.report import (
    FORMAT_VERSION,
    Downtime,
    Left,
    LeftDocument,
    Moved,
    Phase,
    Report,
    Sources,
    Undo,
)
from reconcile.running.record.samples import speeds
from reconcile.running.record.states import MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import moves, runs

_NAMED = 200  # documents that were left, by name
_REASONS = 50  # different reasons to keep a source

_services = msgspec.json.Decoder(list[Heartbeat])


def report_of(catalog: Catalog, record: RunRecord) -> Report:
    """Return the report of a run: finished, unfinished or undone."""
    with catalog.snapshot() as connection:
        columns = sa.select(runs.c.plan_digest, runs.c.services_seen).where(runs.c.run_id == record.run_id)
        plan_digest, services = connection.execute(columns).one()
        moved = _moved(connection, record.run_id)
        sources = _sources(connection, record)
        left = _left(connection, record.run_id)
        named = _left_named(connection, record.run_id)
    header = record.header
    drivers = {_driver(header.source, row.source) for row in moved}
    return Report(
        format_version=FORMAT_VERSION,
        run_id=record.run_id,
        state=record.state,
        plan_id=record.plan_id,
        plan_path=record.plan_path,
        plan_digest=plan_digest,
        undo_of=record.undo_of,
        undone_by=[
            run.run_id
            for run in find_runs(catalog, undo_of=record.run_id)
            if run.state != RunState.UNDONE  # given up
        ],
        executor=record.executor,
        engine=record.engine,
        workers=list(crew(catalog, record.run_id)),
        approved=record.approved,
        planned_by=header.tool_version,
        reported_by=__version__,
        database=header.database,
        source=header.source,
        dest=header.dest,
        begun_at=record.created_at,
        phases=_phases(record),
        downtime=_downtime(record, services),
        states={state: documents for state, (documents, _size) in sorted(count_states(catalog, record.run_id).items())},
        moved=moved,
        sources=sources,
        left=left,
        left_named=named,
        resume=resume_command(record) if record.state in (RunState.STAGING, RunState.SWITCHED) else None,
        undo=_undo(record),
        space=space_left(catalog, drivers),
        remark=record.remark,
        speeds=speeds(catalog, record.run_id),
    )


def _driver(source: ConfigReference, place: str) -> str:
    """Return the driver of a place such as ``source.object_store`` or ``catalog.db``."""
    role = role_of(place)
    return role if place.startswith("catalog.") else str(source.backends[role]["driver"])


def _phases(record: RunRecord) -> list[Phase]:
    # What undid a run wrote its own end into the run's record: when the run itself had ended is not known any more.
    ended = None if record.state in (RunState.UNDONE, RunState.UNDOING) else record.finished_at
    times = [record.created_at, record.staged_at, record.switched_at, ended]
    return [
        Phase(name, end, None if begun is None or end is None else end - begun)
        for name, begun, end in zip(("stage", "switch", "clean"), times, times[1:], strict=False)
    ]


def _downtime(record: RunRecord, services: str | None) -> Downtime:
    if record.switched_at is None:
        return Downtime(None, None, "nothing was switched")
    seen = _services.decode(services or "[]")
    if not seen:
        return Downtime(None, None, "no service has a heartbeat in this database, so it is unknown when they stopped")
    last = max(seen, key=lambda beat: beat.heartbeat)
    return Downtime(
        record.switched_at - last.heartbeat,
        last.heartbeat,
        f"from the last heartbeat, of {last.service} on {last.host}, to the committed switch. Services send a "
        "heartbeat every 60 s, and were down until they were started again",
    )


def _moved(connection: Connection, run_id: str) -> list[Moved]:
    adopted = sa.func.sum(sa.case((moves.c.origin == Origin.ADOPTED, 1), else_=0))
    key = (moves.c.source, moves.c.dest, moves.c.bucket)
    query = (
        sa.select(*key, sa.func.count(), _total(moves.c.before_size), _total(moves.c.after_size), adopted)
        .where(moves.c.run_id == run_id, moves.c.state == MoveState.STAGED)
        .group_by(*key)
        .order_by(*key)
    )
    return [Moved(*row[:3], *map(int, row[3:])) for row in connection.execute(query)]


def _sources(connection: Connection, record: RunRecord) -> list[Sources]:
    """Return what became of the sources, once the catalog did not point at them any more."""
    if record.switched_at is None:
        return []
    policy = "the run keeps all sources"
    reason = sa.case(
        (moves.c.cleaned == Removal.KEPT, moves.c.detail),
        (moves.c.cleaned == Removal.DELETED, None),
        (sa.literal(record.keep_source), policy),
        (moves.c.keep, why_kept_for_good()),
        else_=None,
    )
    fate = sa.case(
        (moves.c.cleaned.in_((Removal.DELETED, Removal.KEPT)), moves.c.cleaned),
        (sa.or_(moves.c.keep, sa.literal(record.keep_source)), Removal.KEPT),
        else_="left so far",
    )
    per_row = (
        sa.select(fate.label("fate"), reason.label("reason"), moves.c.before_size)
        .where(moves.c.run_id == record.run_id, moves.c.state == MoveState.STAGED)
        .subquery()
    )
    query = (
        sa.select(per_row.c.fate, per_row.c.reason, sa.func.count(), _total(per_row.c.before_size))
        .group_by(per_row.c.fate, per_row.c.reason)
        .order_by(per_row.c.fate, sa.func.count().desc())
        .limit(_REASONS)
    )
    return [Sources(row[0], row[1], int(row[2]), int(row[3])) for row in connection.execute(query)]


def _left(connection: Connection, run_id: str) -> list[Left]:
    query = (
        sa.select(moves.c.state, moves.c.reason, sa.func.count())
        .where(moves.c.run_id == run_id, moves.c.state.in_((MoveState.BLOCKED, MoveState.FAILED, MoveState.CHANGED)))
        .group_by(moves.c.state, moves.c.reason)
        .order_by(sa.func.count().desc(), moves.c.state, moves.c.reason)
    )
    return [Left(MoveState(row[0]), row[1] or "", int(row[2])) for row in connection.execute(query)]


def _left_named(connection: Connection, run_id: str) -> list[LeftDocument]:
    query = (
        sa.select(moves)
        .where(moves.c.run_id == run_id, moves.c.state.in_((MoveState.BLOCKED, MoveState.FAILED, MoveState.CHANGED)))
        .order_by(moves.c.seq)
        .limit(_NAMED)
    )
    return [
        LeftDocument(
            f"{row.user_id}/{row.bucket}/{row.archive_id}",
            row.state,
            row.reason or "",
            row.detail,
            row.before_url,
            row.before_size,
        )
        for row in connection.execute(query)
    ]


def _undo(record: RunRecord) -> Undo | None:
    """Return how to take the run back. What an undo did is not taken back but by applying the plan again."""
    if record.state == RunState.UNDONE or (record.undo_of is not None and record.switched_at is not None):
        return None
    return Undo(undo_command(record), record.undo_path, record.undo_digest)


def _total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(column), 0)
