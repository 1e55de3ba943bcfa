"""The three phases in their order, for a plan and for an undo plan alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import sqlalchemy as sa
import structlog
from attrs import define, evolve, field

from reconcile.catalog import Catalog, Scope
from reconcile.catalog.lock import RunLock
from reconcile.catalog.services import database_now
from reconcile.catalog.standby import wait_for_standbys
from reconcile.control import Control, RateLimit
from reconcile.errors import (
    LimitReachedError,
    PlanFileError,
    ReconcileError,
    TooManyFailuresError,
)
from reconcile.formatting import count, time_text
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.planning.planfile import undo_path
from reconcile.planning.planner import unreadable_with
from reconcile.running.phases.aliases import remove_markers
from reconcile.running.phases.clean import Cleaner
from reconcile.running.phases.clean_part import NOT_INTACT
from reconcile.running.phases.context import RunContext, StorePool, open_stores
from reconcile.running.phases.elsewhere import refuse_crowding
from reconcile.running.phases.failures import limit_reached, stage_failed
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.refresh import Refresher
from reconcile.running.phases.rehearsal import rehearse
from reconcile.running.phases.speed import SpeedLimits, Throttle
from reconcile.running.phases.stage import Limits, Stager
from reconcile.running.phases.stale import changed_rows, rows_changed
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.phases.switch import Switcher, heartbeats_now, wait_for_quiet
from reconcile.running.phases.undo_plan import mark_undone, write_undo_plan
from reconcile.running.record import late_requests
from reconcile.running.record.records import StateCounts, find_runs, remove_records
from reconcile.running.record.result import Outcome, outcome_of
from reconcile.running.record.run import Run
from reconcile.running.record.samples import Sampled
from reconcile.running.record.states import MoveState, RunState
from reconcile.running.record.tables import moves
from reconcile.running.record.work_moves import work_move
from reconcile.secret import scrub
from reconcile.stores import Store

_SHOWN = 20
_FEWER = "fix the cause and run the same command again, or give a larger --max-failures to try the other documents"

log = get_logger()


@define
class Phases:
    """One run in progress, with everything that its phases share."""

    run: Run
    pool: StorePool
    options: RunOptions
    control: Control
    _stores: dict[str, Store] = field(factory=dict)
    _owner: Owner = field(init=False)

    def execute(self, *, is_news: bool = True) -> Outcome:
        """Execute the phases from where the run is; return its outcome. ``is_news``: announce the switch."""
        structlog.contextvars.bind_contextvars(run=self.run.run_id)
        shown = self.control.progress
        try:
            self._ended(None)
            self.control.progress = Sampled(shown, self.run)
            self.control.watch = self.lock.watch
            self.control.progress.step("opening the stores")
            self._open_stores()
            rehearse(self.run, self._stores)
            if self.run.record.state == RunState.STAGING:
                counts = self._stage()
                if self.options.refresh and not self.is_undo and not counts:
                    return self._discarded()
                if self.options.stage_only:
                    self._ended(None, paused=True)
                    return self._staged()
                unreadable = self._switch()
            else:
                unreadable = self._unreadable() if is_news or self.options.clean_later else 0
            if is_news:
                self._tell_switched(unreadable)
            if self.options.clean_later:
                self._ended(None, paused=True)
                return self._switched(unreadable)
            self._clean()
            return self._finish()
        except ReconcileError as error:
            with suppress(ReconcileError):
                paused = isinstance(error, LimitReachedError)
                self._ended(scrub(error.message.partition("\n")[0].rstrip(":")), paused=paused)
            raise
        finally:
            self.control.watch, self.control.progress = _nothing, shown
            structlog.contextvars.unbind_contextvars("run")

    def _ended(self, remark: str | None, *, paused: bool = False) -> None:
        """Leave word of why this process stopped, for `reconcile status`; ``paused``: it was asked to stop there."""
        with self.run.writing() as connection:
            paused_at = database_now(connection) if paused else None
            self.run.update(connection, remark=remark, doing=None, paused_at=paused_at)

    @property
    def _context(self) -> RunContext:
        return RunContext(self.run, self.desired, self._stores, self.control, self.options.pipelines)

    @property
    def lock(self) -> RunLock:
        """The lock that this process holds."""
        lock = self.run.executor.lock if self.run.executor is not None else None
        assert lock is not None  # noqa: S101 - whoever goes through phases executes
        return lock

    @property
    def desired(self) -> DesiredState:
        """The two configs that lead the run."""
        return self.pool.desired

    @property
    def catalog(self) -> Catalog:
        """The catalog's database."""
        return self.run.catalog

    @property
    def is_undo(self) -> bool:
        """Whether this run undoes another."""
        return self.run.record.undo_of is not None

    def _open_stores(self) -> None:
        """Open the stores in use; make what the destination's config asks to be made."""
        self._stores = open_stores(self.run, self.pool, create=self.run.record.state == RunState.STAGING)
        self._owner = Owner(self.run, self._stores, share=self.options.share_destination)
        self._owner.open()

    def _stage(self) -> StateCounts:
        """Stage what the budget allows; return what is staged. Raises `LimitReachedError` if that is not all."""
        if not self.is_undo:
            self._check_undo_path()
        self.run.retry_unstaged()
        if self.options.refresh:
            self._refresh()
        if self.options.engine is not None:
            refuse_crowding(self.catalog, self.options.engine, "nothing was staged; the same command resumes")
        with self._few_failures():
            self._stager().stage()
        counts = self.run.counts()
        self._require_all_staged(counts)
        documents, size = counts.get(MoveState.STAGED, (0, 0))
        log.info("staged", phase="stage", documents=documents, bytes=size)
        return counts

    def _refresh(self) -> None:
        found = Refresher(self._context, self._owner, self.pool).refresh()
        self.control.progress.say(found.describe())
        if {name for pair in self.run.backend_pairs() for name in pair} - self._stores.keys():
            self._open_stores()
        if found.blocked and not self.options.leave_blocked:
            lines = [f"  {name}" for name in found.blocked[:_SHOWN]]
            raise ReconcileError(
                f"{count(len(found.blocked), 'document is', 'documents are')} blocked; nothing was switched:\n"
                + "\n".join(lines),
                hint="fix the causes and run the same command again, or give --leave-blocked to leave those documents",
            )

    @contextmanager
    def _few_failures(self) -> Iterator[None]:
        try:
            yield
        except TooManyFailuresError as error:
            raise stage_failed(self.run, f"{error.message}: staging stopped", hint=_FEWER) from None

    def _speed_limits(self) -> SpeedLimits:
        def use_workers(workers: int) -> None:
            for store in self._stores.values():
                store.set_concurrency(workers)

        options = self.options
        return SpeedLimits(options.max_rate, options.max_bandwidth, options.limits_file, use_workers)

    def _stager(self) -> Stager:
        options = self.options
        return Stager(self._context, self._limits(), self._owner.may_overwrite, options.engine, options.workers)

    def _discarded(self) -> Outcome:
        """End a run that a refresh has left nothing to move: it leaves no record, and an earlier undo plan stays."""
        self._owner.release()
        with self.run.writing() as connection:
            remove_records(connection, [self.run.run_id])
        log.info("nothing to move", phase="refresh")
        return Outcome(run_id="", already="no document has to move")

    def _staged(self) -> Outcome:
        """End after staging; rows that changed meanwhile are for a refresh to include."""
        counts = self.run.counts()
        outcome = outcome_of(self.catalog, self.run.run_id)
        return evolve(outcome, staged=True, changed=counts.get(MoveState.CHANGED, (0, 0))[0])

    def _switch(self) -> int:
        """Switch once all copies are found intact; return how many documents services could not read then."""
        switcher = Switcher(self._context, self.options.engine, self.options.workers)
        late_requests.wait(self.catalog, self.run.run_id, self._stores, self.control, self.options.takeover_wait)
        with self._few_failures():
            switcher.recheck(self._stager())
            while late_requests.wait(
                self.catalog, self.run.run_id, self._stores, self.control, self.options.takeover_wait
            ):
                switcher.recheck(self._stager())
        counts = self.run.counts()
        self._require_all_staged(counts)
        if not self.is_undo:
            self._write_undo_plan()
        if self.options.ignore_services:
            seen = heartbeats_now(self.catalog)
        else:
            seen = wait_for_quiet(self.run, self.control, self.options.wait_for_services)
        if not self.is_undo:
            self._owner.share_adopted()
        with self.run.writing() as connection:
            self.run.update(connection, services_seen=msgspec.json.encode(seen).decode())
        header = self.run.record.header
        return switcher.switch(
            self.lock,
            Scope.of(header.scope),
            limited=header.policy.limited,
            ignore_services=self.options.ignore_services,
        )

    def _tell_switched(self, unreadable: int) -> None:
        """Tell when the downtime may end: services wait for the switch alone, not for what is deleted after it."""
        switched_at = find_runs(self.catalog, run_id=self.run.run_id)[0].switched_at
        at = "" if switched_at is None else f"{time_text(switched_at)}: "
        dest, what = self.desired.dest.path, "undone" if self.is_undo else "switched"
        if unreadable:
            text = (
                f"{what}; NOT YET: services with {dest} could not read {count(unreadable)}, which are "
                "still at another driver"
            )
        else:
            stay = self.run.record.keep_source or not self.run.deletes_sources()
            kept = stay or self.options.clean_later
            which = f"a config with the former content of {dest}" if self.desired.dest.is_from_plan else dest
            text = f"{what}: you can start the services with {which} now"
            text += "" if kept else f"; {'copies' if self.is_undo else 'sources'} are being deleted"
        self.control.progress.say(at + text, strong=True)

    def _unreadable(self) -> int:
        with self.catalog.read(bulk=True) as connection:
            return unreadable_with(connection, self.run.record.header.dest)

    def _switched(self, unreadable: int) -> Outcome:
        """End after the switch: a clean deletes the sources at another time."""
        return evolve(outcome_of(self.catalog, self.run.run_id), unreadable=unreadable, clean_later=True)

    def _require_all_staged(self, counts: StateCounts) -> None:
        """Raise unless every move is staged, or those that failed may be left.

        `LimitReachedError` if the budget ended the staging before its end.
        """
        if MoveState.PLANNED in counts:
            raise limit_reached(self.run, counts, self.options.budget.reached, self.desired.dest.path)
        if MoveState.CHANGED in counts and not self.options.stage_only:
            with self.catalog.read(bulk=True) as connection:
                raise rows_changed(self.run, *changed_rows(connection, self.run.run_id))
        if MoveState.FAILED in counts and not (self.options.leave_failed and not self.options.stage_only):
            raise stage_failed(self.run, f"{count(counts[MoveState.FAILED][0])} could not be staged")
        with self.run.writing() as connection:
            self.run.update(connection, staged_at=database_now(connection))

    def _limits(self) -> Limits:
        options, failures = self.options, None
        if options.max_failures:
            counts = self.run.counts()
            failures = options.max_failures.of(sum(counts[state][0] for state in counts.keys() - {MoveState.BLOCKED}))
        return Limits(
            failures,
            options.max_document_size,
            options.memory,
            options.leave_failed,
            options.budget,
            Throttle(self._speed_limits()),
        )

    def _undo_path(self) -> Path:
        return self.options.undo_out or undo_path(Path(self.run.record.plan_path))

    def _check_undo_path(self) -> None:
        """Raise `PlanFileError` now rather than after all is copied, if the undo plan cannot be written."""
        folder = self._undo_path().absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PlanFileError(
                f"{folder}: the undo plan cannot be written there; nothing was switched",
                hint="name another file with --undo-out",
            )

    @carries_out(Step.UNDO_PLAN)
    def _write_undo_plan(self) -> None:
        self.control.progress.step("writing the undo plan")
        record = self.run.record
        path = self._undo_path()
        digest = write_undo_plan(self.catalog, record, path, self.desired)
        with self.run.writing() as connection:
            self.run.update(connection, undo_path=str(path.absolute()), undo_digest=digest)
        log.info("undo plan written", phase="switch", path=str(path))

    def _clean(self) -> None:
        self.lock.check()
        if not self.run.record.keep_source:
            wait_for_standbys(self.catalog, self.control.progress.say, self.control.check)
            late_requests.wait(self.catalog, self.run.run_id, self._stores, self.control, self.options.takeover_wait)
        rate = RateLimit(self.options.max_rate)
        Cleaner(self._context, self._owner, rate, self.options.engine, self.options.workers).clean()

    @carries_out(Step.END)
    def _finish(self) -> Outcome:
        if self.run.record.undo_of is not None:
            remove_markers(self.run.record.undo_of, self._stores)
        self.control.progress.step("ending the run")
        self._owner.release()
        with self.run.writing() as connection:
            self._owner.forget(connection)
            ended = database_now(connection)  # asked once: an undo that ended before what it undid is not the last run
            self.run.update(connection, state=RunState.DONE, doing=None, finished_at=ended)
            if self.run.record.undo_of is not None:
                mark_undone(connection, self.run.record.undo_of, ended)
        log.info("run finished", phase="done")
        with self.catalog.read(bulk=True) as connection:
            query = sa.select(moves).where(moves.c.run_id == self.run.run_id, moves.c.detail == NOT_INTACT)
            works = [work_move(row) for row in connection.execute(query.order_by(moves.c.seq).limit(_SHOWN))]
        names = tuple("/".join(work.move.document) for work in works)
        return evolve(outcome_of(self.catalog, self.run.run_id), unreadable=self._unreadable(), not_intact=names)


def _nothing() -> None:
    """Watch nothing."""
