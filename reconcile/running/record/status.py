"""The status of a run, during and after it: short reads, no lock, nothing written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from attrs import frozen

from reconcile.catalog import Catalog
from reconcile.catalog.lock import lock_holder
from reconcile.catalog.services import database_now
from reconcile.planning.model import Tally
from reconcile.planning.planner import unreadable_with
from reconcile.running.record.crew import WorkerRecord, crew
from reconcile.running.record.next_steps import config_for_services, next_step, watch_step
from reconcile.running.record.records import RunRecord, find_runs
from reconcile.running.record.states import MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import moves
from reconcile.throughput import Rate

PHASES = {
    RunState.STAGING: "staging; the catalog is unchanged",
    RunState.SWITCHED: "the catalog is switched; sources still have to be deleted",
    RunState.DONE: "done; the catalog is switched",
    RunState.UNDOING: "being undone",
    RunState.UNDONE: "undone",
}


@frozen
class Status:
    """A run at one moment: ``at``, in Unix seconds by the database's clock.

    ``documents`` counts moves by their state, ``sources`` the deleted and kept ones. ``done`` of ``total`` is how far
    the present phase is. ``holder`` is who holds the lock: no other process can be working on this run.
    ``services`` says which config they need, if the catalog is as this run switched it and no process is working.
    ``workers`` are those of an engine, if it has one.
    """

    record: RunRecord
    at: int
    documents: dict[str, Tally]
    sources: dict[str, int]
    done: Tally
    total: Tally
    holder: str | None
    others: tuple[RunRecord, ...]
    services: str | None = None
    workers: tuple[WorkerRecord, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether nothing of the run is left to do."""
        return self.record.state in (RunState.DONE, RunState.UNDONE)

    @property
    def achieved(self) -> Tally:
        """What of ``done`` reached the phase's goal: a document that failed or changed is not staged."""
        staged = self.documents.get(MoveState.STAGED, Tally(0, 0))
        return staged if self.record.state == RunState.STAGING else self.done

    @property
    def average(self) -> Rate | None:
        """The rate of staging since the run began; None where no process is staging."""
        seconds = self.at - self.record.created_at
        if self.record.state != RunState.STAGING or self.holder is None or seconds <= 0:
            return None
        return Rate(self.done.documents / seconds, self.done.bytes / seconds)

    @property
    def is_interrupted(self) -> bool:
        """Whether it stopped in the middle: no process is working, and it was not asked to stop there."""
        return self.is_at_rest and self.record.paused_at is None

    @property
    def rest(self) -> str | None:
        """Why no process is working although something is left to do; None if one is, or nothing is left."""
        if not self.is_at_rest:
            return None
        if self.record.paused_at is not None:
            return "stopped as requested"
        how = "STOPPED" if self.record.remark else "INTERRUPTED"  # who is killed leaves no word of why
        return f"{how}: no process is working on it"

    @property
    def is_at_rest(self) -> bool:
        """Whether something is left to do, and no process is working on it."""
        return not self.is_finished and self.holder is None

    @property
    def doing(self) -> str | None:
        """The phase or step that its executor is at; None if no process is working."""
        return self.record.doing if self.holder is not None and not self.is_finished else None

    @property
    def next_step(self) -> str:
        """What to type next. While a process is working, only watching: a run in progress is not undone."""
        if self.holder is not None and not self.is_finished:
            return watch_step(self.record)
        return next_step(self.record, self.documents, self.services)


@frozen
class _Group:
    state: MoveState
    cleaned: Removal | None
    keep: bool
    origin: Origin | None
    documents: int
    size: int


def status_of(catalog: Catalog, record: RunRecord) -> Status:
    """Return the status of a run whose record was just read."""
    columns = (moves.c.state, moves.c.cleaned, moves.c.keep, moves.c.origin)
    query = (
        sa.select(*columns, sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0))
        .where(moves.c.run_id == record.run_id)
        .group_by(*columns)
    )
    with catalog.read(bulk=True) as connection:
        groups = [_Group(*row) for row in connection.execute(query)]
    total = [group for group in groups if _counts(record, group)]
    ended, holder, found = (RunState.DONE, RunState.UNDONE), lock_holder(catalog), find_runs(catalog)
    services = None
    if is_in_charge(record, found) and (holder is None or record.state == RunState.DONE):
        with catalog.read(bulk=True) as connection:
            services = config_for_services(record, unreadable_with(connection, record.header.dest))
    workers = crew(catalog, record.run_id)
    with catalog.read() as connection:
        at = database_now(connection)  # asked last: no worker was seen later than that
    return Status(
        record=record,
        at=at,
        documents={state: _tally(g for g in groups if g.state == state) for state in sorted({g.state for g in groups})},
        sources={
            cleaned: _tally(g for g in groups if g.cleaned == cleaned).documents
            for cleaned in sorted({g.cleaned for g in groups if g.cleaned})
        },
        done=_tally(group for group in total if _is_done(record, group)),
        total=_tally(total),
        holder=holder,
        others=tuple(
            other
            for other in found
            if other.state not in ended and other.run_id not in (record.run_id, record.undo_of)
            if other.undo_of != record.run_id
        ),
        services=services,
        workers=workers,
    )


def is_in_charge(record: RunRecord, found: Sequence[RunRecord]) -> bool:
    """Tell whether the catalog is as this run switched it: it did, and none did later."""
    at, states = record.switched_at, (RunState.SWITCHED, RunState.DONE)
    if at is None or record.state not in states:
        return False
    return not any(other.number > record.number and other.switched_at is not None for other in found)


def _counts(record: RunRecord, group: _Group) -> bool:
    """Tell whether the present phase has anything to do with these moves."""
    if record.state == RunState.SWITCHED:
        return group.state == MoveState.STAGED and not (group.keep or record.keep_source)
    return group.state != MoveState.BLOCKED


def _is_done(record: RunRecord, group: _Group) -> bool:
    if record.state == RunState.STAGING:
        return group.state != MoveState.PLANNED
    if record.state == RunState.SWITCHED:
        return group.cleaned in (Removal.DELETED, Removal.KEPT)
    return record.state != RunState.UNDOING or group.origin not in (Origin.INTENDED, Origin.WRITTEN)


def _tally(groups: Iterator[_Group] | list[_Group]) -> Tally:
    held = list(groups)
    return Tally(sum(group.documents for group in held), int(sum(group.size for group in held)))
