"""Switch: repoint the catalog, all rows of the run in one transaction (R2), or none.

Before it the destination is checked once more. In the transaction: the lock is held, the services are
quiet, no row was added at a source, every row is unchanged since the plan. Only location columns are written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.catalog import Catalog
from reconcile.catalog.lock import RunLock
from reconcile.catalog.rows import Scope, stream_rows
from reconcile.catalog.rules import fire_deferred, meddled, row_sum, rules_of
from reconcile.catalog.services import QUIET_SECONDS, Heartbeat, database_now, heartbeats, other_sessions
from reconcile.catalog.tables import archive_metadata, archive_migration_tasks, services, tasks
from reconcile.catalog.tasks import record_task
from reconcile.control import Control
from reconcile.engines import Engine
from reconcile.errors import CatalogError, ReconcileError, ServicesRunningError, UnconfirmedError
from reconcile.formatting import count
from reconcile.logs import get_logger, printable
from reconcile.planning.model import Blocker, Move
from reconcile.planning.planner import unreadable_with
from reconcile.running.phases.context import Phase
from reconcile.running.phases.dispatch import Carrier, Dispatch, threaded
from reconcile.running.phases.elsewhere import Job, elsewhere
from reconcile.running.phases.look_part import Looked, PartLooker
from reconcile.running.phases.repoint import repoint
from reconcile.running.phases.stage import Stager
from reconcile.running.phases.stale import SHOWN, changed_rows, rows_added, rows_changed
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.phases.undo_plan import CLOCK_SKEW_SECONDS
from reconcile.running.record import late_requests
from reconcile.running.record.in_place import of_no_other_run
from reconcile.running.record.next_steps import resume_command
from reconcile.running.record.parts import Part
from reconcile.running.record.records import find_runs
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import as_after, late_deletes, moves, same_row

_LOOK_DOCUMENTS = 1000
_LOOK_ROUNDS = 3
_SHOWN = 20
_SERVICE_POLL_SECONDS = 1.0
_LOCK_SECONDS = 15

_GROUPS = (moves.c.state, moves.c.source, moves.c.dest)

log = get_logger()


@define
class Switcher(Phase):
    """The switch phase of one run."""

    engine: Engine | None = None
    workers: int | None = None

    @carries_out(Step.RECHECK)
    def recheck(self, stager: Stager) -> None:
        """Check that every copy is still there; stage again what is gone (R3).

        Raises `UnconfirmedError` if copies keep vanishing.
        """
        counts = self.run.counts()
        failed = counts.get(MoveState.FAILED)
        for _round in range(_LOOK_ROUNDS):
            gone = self._look(*counts.get(MoveState.STAGED, (0, 0)))
            gone = max(gone, self.run.counts().get(MoveState.PLANNED, (0, 0))[0])  # an answer may have been lost
            if not gone:
                return
            self.control.progress.say(f"{gone:,} staged copies are gone from the destination; they are staged again")
            stager.stage()
            counts = self.run.counts()
            if (
                counts.get(MoveState.FAILED) != failed or MoveState.STAGED not in counts
            ):  # other content is in their place
                break
        raise UnconfirmedError(
            f"the destination does not keep copies that it had confirmed: {gone:,} were missing or altered at "
            "the last check",
            hint="nothing was switched; find out what deletes or alters them, then run the same command again",
        )

    def _send_workers_away(self) -> None:
        """Have no worker at work: what one writes late must not come after a look. This run's own are ended if need be.

        Raises `LockedError` while others are (exit 10).
        """
        lock = self.run.executor.lock if self.run.executor is not None else None
        if self.engine is not None and lock is not None and not lock.keep_workers_out():
            self.engine.close()
        self.keep_workers_out()

    def _look(self, documents: int, size: int) -> int:
        """Look at so many copies of so many bytes; return how many are gone."""
        self._send_workers_away()  # those that staged; whoever looks can claim nothing else
        self.control.progress.phase("recheck", documents, size)
        gone = 0

        def report(_part: Part, looked: Looked) -> None:
            nonlocal gone
            gone += looked.gone
            self.control.progress.advance(looked.documents, looked.size)

        parts = map(Part.of, self.run.outlines(MoveState.STAGED, _LOOK_DOCUMENTS))
        with self._carrier() as carrier:
            Dispatch(self.control, carrier, report).run(parts)
        return gone

    def _carrier(self) -> AbstractContextManager[Carrier[Looked]]:
        """Return who looks: threads of this process, or workers elsewhere."""
        if self.engine is not None:
            return elsewhere(self.run, self.engine, Job("look", Looked, self.workers))
        return threaded(self.pipelines, PartLooker(self.context).look)

    @carries_out(Step.SWITCH)
    def switch(self, lock: RunLock, scope: Scope, *, limited: bool, ignore_services: bool) -> int:
        """Repoint every staged row, or none; return how many documents services could not read then.

        Raises `StaleError`, `ServicesRunningError`, `LockedError`.
        """
        self._send_workers_away()
        has_tasks = self.run.catalog.has_table(tasks) and self.run.catalog.has_table(archive_migration_tasks)
        has_services = self.run.catalog.has_table(services)
        self.control.progress.step("switching the catalog")
        with lock.transaction() as connection:
            self.run.guard(connection)
            self.run.catalog.favour_hash_joins(connection)
            self._refuse_another_place(connection)
            self._keep_writers_out(connection)
            beats = heartbeats(connection) if has_services else []
            if beats and not ignore_services:
                _refuse_young(beats, other_sessions(connection))
            if not limited:
                self._refuse_added(connection, scope)
            switched = self._repoint(connection)
            if has_tasks:
                self._record_tasks(connection, switched)
            self.run.update(connection, state=RunState.SWITCHED, switched_at=database_now(connection))
        downtime = min((beat.age for beat in beats), default=None)
        header = self.run.record.header
        with self.run.catalog.read(bulk=True) as connection:
            unreadable = unreadable_with(connection, header.dest)
        log.info(
            "switched",
            phase="switch",
            documents=sum(switched.values()),
            downtime_seconds=downtime,
            config=str(self.desired.dest.path),
            unreadable=unreadable,
            undo_of=header.undo_of,
        )
        return unreadable

    def _refuse_another_place(self, connection: Connection) -> None:
        """Raise where a path leads elsewhere by now, or where a copy may still be deleted by a late request."""
        for store in self.stores.values():
            store.check_place()
        for store in self.stores.values():
            is_late = late_requests.concerns(self.run.run_id, store.address.identity)
            if connection.execute(sa.select(late_deletes.c.url).where(is_late).limit(1)).first() is not None:
                raise UnconfirmedError(
                    "a delete request for one of the copies may still arrive; nothing was switched",
                    hint="run the same command again: it waits until no such request can arrive",
                )

    def _keep_writers_out(self, connection: Connection) -> None:
        """Let nobody write the catalog until the commit; readers go on."""
        if not self.run.catalog.is_postgresql:
            return
        try:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            connection.exec_driver_sql("LOCK TABLE archive_metadata IN SHARE ROW EXCLUSIVE MODE")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != "55P03":
                raise
            raise CatalogError(
                f"another session is using the catalog: archive_metadata could not be locked in {_LOCK_SECONDS} s",
                hint="nothing was switched; end that session (see pg_stat_activity), then run the same command again",
            ) from None

    def _refuse_added(self, connection: Connection, scope: Scope) -> None:
        """Raise `StaleError` if a row in scope is at a source, or nowhere, and not in the run (R4, R7)."""
        ours = sa.exists().where(moves.c.run_id == self.run.run_id, same_row(archive_metadata))
        since = self.run.record.header.undo_of and self.run.record.header.snapshot_at
        condition = sa.and_(scope.condition(), ~ours)
        if since:
            newest = sa.func.coalesce(archive_metadata.c.last_updated, archive_metadata.c.created_at, 0)
            undone = find_runs(self.run.catalog, run_id=self.run.record.undo_of)[0]
            condition = sa.and_(condition, newest >= since - CLOCK_SKEW_SECONDS, of_no_other_run(undone))
        added, lines = 0, list[str]()
        for row in stream_rows(connection, condition, ordered=False):
            if isinstance(self.desired.decide(row), Move if since else Move | Blocker):
                added += 1
                if added <= SHOWN:
                    at = printable(row.content_url or "")
                    lines.append(f"{printable('/'.join(row.document))}: added since the plan, at {at}")
        if added:
            raise rows_added(self.run, added, lines)

    def _repoint(self, connection: Connection) -> dict[tuple[str, str], int]:
        """Repoint every staged row; return how many, by backends. Raises `ReconcileError` if not all is as it was."""
        mine = sa.and_(moves.c.run_id == self.run.run_id, moves.c.state == MoveState.STAGED)
        count = sa.select(sa.func.count()).select_from(moves)
        of_run = sa.select(*_GROUPS, sa.func.count().label("documents")).where(moves.c.run_id == self.run.run_id)
        groups = connection.execute(of_run.group_by(*_GROUPS)).all()
        if any(group.state in (MoveState.PLANNED, MoveState.CHANGED) for group in groups):  # R2: all, or nothing
            raise ReconcileError(
                "not every document is staged; nothing was switched", hint="the same command stages the rest"
            )
        pairs = {(group.source, group.dest): group.documents for group in groups if group.state == MoveState.STAGED}
        expected = sum(pairs.values())
        rules = rules_of(connection, archive_metadata.name, "UPDATE")
        before = _rest(connection, mine) if rules else 0
        with connection.begin_nested() as savepoint:
            changed = repoint(connection, self.run.catalog, mine, has_rules=bool(rules))
            fire_deferred(connection)
            kept = connection.execute(count.where(mine, same_row(archive_metadata), as_after(archive_metadata)))
            held = int(kept.scalar_one())
            if changed == held == expected and (not rules or _rest(connection, mine) == before):
                return pairs
            savepoint.rollback()
        number, lines = changed_rows(connection, self.run.run_id)
        if number:
            raise rows_changed(self.run, number, lines)
        what = "and other columns or rows changed too" if held == expected else "the others hold something else"
        raise meddled(
            rules,
            f"{held:,} of {expected:,} catalog rows hold what the switch wrote, {what}; the switch was rolled back",
        )

    def _record_tasks(self, connection: Connection, switched: Mapping[tuple[str, str], int]) -> None:
        started = datetime.fromtimestamp(self.run.record.created_at, UTC)
        places = self.desired.places
        for (source, dest), documents in sorted(switched.items()):
            drivers = places[source].backend.driver, places[dest].backend.driver
            record_task(connection, *drivers, documents, started)


def _rest(connection: Connection, mine: sa.ColumnElement[bool]) -> int:
    """Return a checksum of what the switch is to leave as it is: all else of its rows, and all other rows."""
    joined = archive_metadata.outerjoin(moves, sa.and_(mine, same_row(archive_metadata)))
    columns = ("content_url", "is_compressed", "digest", "size")
    return row_sum(connection, archive_metadata, joined, moves.c.seq.is_not(None), columns)


def wait_for_quiet(run: Run, control: Control, seconds: int) -> list[Heartbeat]:
    """Watch services with a recent heartbeat until it expires. Raises `ServicesRunningError` if one advances.

    Returns the heartbeats, for the run's record.
    """
    catalog = run.catalog
    first = heartbeats_now(catalog)
    if not first:
        return []
    with catalog.read() as connection:
        sessions = other_sessions(connection)
    young = {beat.name: beat for beat in first if beat.is_young}
    deadline = time.monotonic() + seconds
    if young and seconds > 0:
        rest = QUIET_SECONDS - min(beat.age for beat in young.values())
        control.progress.step("waiting for heartbeats to expire")
        seen = f"{count(len(young), 'service', 'services')} had a recent heartbeat"
        control.progress.say(f"{seen}; waiting up to {min(rest, seconds)} s to see whether one is running")
    current = first
    while any(beat.is_young for beat in current):
        advanced = [beat for beat in current if beat.is_young and beat.heartbeat != _value(young, beat)]
        if advanced or time.monotonic() >= deadline:
            _refuse_young(advanced or current, sessions, how=None if seconds > 0 else resume_command(run.record))
        control.check()
        time.sleep(_SERVICE_POLL_SECONDS)
        with catalog.read() as connection:
            current, sessions = heartbeats(connection), other_sessions(connection)
    return first


def heartbeats_now(catalog: Catalog) -> list[Heartbeat]:
    """Return the services' heartbeats as they are now; none where there is no such table."""
    if not catalog.has_table(services):
        return []
    with catalog.read() as connection:
        return heartbeats(connection)


def _value(young: dict[tuple[str, str], Heartbeat], beat: Heartbeat) -> int | None:
    return young[beat.name].heartbeat if beat.name in young else None


def _refuse_young(beats: list[Heartbeat], sessions: list[str], how: str | None = None) -> None:
    """Raise `ServicesRunningError` if a heartbeat is young. ``how``: the command that waits, if this one does not."""
    names = [beat.describe() for beat in beats if beat.is_young]
    if names:
        others = f" Other sessions on the database: {printable(', '.join(sessions))}." if sessions else ""
        raise ServicesRunningError(
            f"services may be running: {', '.join(names)}.{others} Nothing was switched; what is staged stays staged",
            hint="stop them, then run the same command again (it waits for their heartbeats to expire)"
            if how is None
            else f"stop them, then: {how}    waits for their heartbeats to expire",
        )
