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
from reconcile.control import Control, RateLimit
from reconcile.errors import (
    BackendError,
    LimitReachedError,
    PlanFileError,
    ReconcileError,
    StageFailedError,
    TooManyFailuresError,
)
from reconcile.logs import get_logger, printable
from reconcile.planning.desired import DesiredState
from reconcile.planning.planfile import undo_path
from reconcile.planning.planner import unreadable_with
from reconcile.running.clean import Cleaner
from reconcile.running.options import RunOptions
from reconcile.running.outcome import Outcome, outcome_of
from reconcile.running.refresh import Refresher
from reconcile.running.run import Run
from reconcile.running.stage import Limits, Stager
from reconcile.running.switch import Switcher, last_signs, stale, wait_for_quiet
from reconcile.running.undo import mark_undone, write_undo_plan
from reconcile.running.worktables import BLOCKED, CHANGED, DONE, FAILED, PLANNED, STAGED, STAGING, moves
from reconcile.secret import scrub
from reconcile.stores import Store, open_store
from reconcile.wording import count

_SHOWN = 20
_FEWER = "mend the cause and run the same command again, or give a larger --max-failures to try the others"

log = get_logger()


@define
class Phases:
    """One run in progress, with everything that its phases share."""

    run: Run
    desired: DesiredState
    options: RunOptions
    control: Control
    lock: RunLock
    _stores: dict[str, Store] = field(factory=dict)

    def execute(self) -> Outcome:
        """Go through the phases from where the run is; return what it came to."""
        structlog.contextvars.bind_contextvars(run=self.run.run_id)
        try:
            self._remark(None)
            self.control.watch = self.lock.watch
            self._open_stores()
            if self.run.record.state == STAGING:
                self._stage()
                if self.options.stage_only:
                    return self._staged()
                self._switch()
            self._clean()
            return self._finish()
        except ReconcileError as error:
            with suppress(ReconcileError):
                self._remark(scrub(error.message.partition("\n")[0]))
            raise
        finally:
            self.control.watch = _nothing
            structlog.contextvars.unbind_contextvars("run")

    def _remark(self, text: str | None) -> None:
        """Leave word of why the run stopped, for `reconcile status`."""
        with self.run.writing() as connection:
            self.run.update(connection, remark=text)

    @property
    def catalog(self) -> Catalog:
        """The catalog's database."""
        return self.run.catalog

    @property
    def is_undo(self) -> bool:
        """Whether this run takes another back."""
        return self.run.record.undo_of is not None

    def _open_stores(self) -> None:
        """Open the stores in use; make what the destination's config asks to be made."""
        self._stores = open_stores(self.run, self.desired, self.options, create=self.run.record.state == STAGING)
        query = sa.select(moves.c.dest, moves.c.dest_store).where(
            moves.c.run_id == self.run.run_id, moves.c.dest.is_not(None)
        )
        with self.catalog.snapshot() as connection:
            recorded = connection.execute(query.distinct()).all()
        for name, identity in recorded:
            now = self.desired.places[name].address.identity
            if now != identity:
                raise BackendError(
                    f"{name} is not the place that the run began to stage to: it was {identity}, it is {now}",
                    hint="is the data dir mounted? Nothing was done",
                )

    def _stage(self) -> None:
        """Stage what the budget allows. Raises `LimitReachedError` if that is not all."""
        if not self.is_undo:
            self._check_undo_path()
        self.run.retry_unstaged()
        if self.options.refresh:
            self._refresh()
        with self._few_failures():
            self._stager().stage()
        self._refuse_unfinished()
        self._judge()

    def _refresh(self) -> None:
        found = Refresher(self.run, self.desired, self._stores, self.control, self.options.pipelines).refresh()
        self.control.progress.say(found.describe())
        if {name for pair in self.run.backend_pairs() for name in pair} - self._stores.keys():
            self._open_stores()
        if found.blocked and not self.options.leave_blocked:
            lines = [f"  {name}" for name in found.blocked[:_SHOWN]]
            raise ReconcileError(
                f"{count(len(found.blocked), 'document is', 'documents are')} blocked; nothing was switched:\n"
                + "\n".join(lines),
                hint="mend the causes and run the same command again, or give --leave-blocked to leave those documents",
            )

    @contextmanager
    def _few_failures(self) -> Iterator[None]:
        try:
            yield
        except TooManyFailuresError as error:
            raise self._stage_failed(f"{error.message}: staging stopped", hint=_FEWER) from None

    def _stager(self) -> Stager:
        return Stager(self.run, self.desired, self._stores, self.control, self.options.pipelines, self._limits())

    def _refuse_unfinished(self) -> None:
        """Raise `LimitReachedError` if the budget ended the staging before its end."""
        budget, counts = self.options.budget, self.run.counts()
        if PLANNED not in counts:
            return
        staged, left = counts.get(STAGED, (0, 0))[0], counts[PLANNED][0]
        ended = f"staging was ended by {budget.reached or 'a limit'}"
        raise LimitReachedError(
            f"{ended}: {count(staged)} staged, which stay so, and {left:,} still to be staged; nothing was switched",
            hint="the same command goes on where this one stopped;"
            f" reconcile verify {self.desired.dest.path} --run {self.run.run_id} checks what is staged",
        )

    def _staged(self) -> Outcome:
        """End after staging; rows that changed meanwhile are for a refresh to take along."""
        counts = self.run.counts()
        log.info("staged", phase="stage", documents=counts.get(STAGED, (0, 0))[0])
        outcome = outcome_of(self.catalog, self.run.run_id)
        return evolve(outcome, staged=True, changed=counts.get(CHANGED, (0, 0))[0])

    def _switch(self) -> None:
        switcher = Switcher(self.run, self.desired, self._stores, self.control, self.options.pipelines)
        with self._few_failures():
            switcher.look_again(self._stager())
        self._refuse_unfinished()
        self._judge()
        if not self.is_undo:
            self._write_undo_plan()
        if self.options.ignore_services:
            seen = last_signs(self.catalog)
        else:
            seen = wait_for_quiet(self.run, self.control, self.options.wait_for_services)
        with self.run.writing() as connection:
            self.run.update(connection, services_seen=msgspec.json.encode(seen).decode())
        header = self.run.record.header
        switcher.switch(
            self.lock,
            Scope.of(header.scope),
            limited=header.policy.limited,
            ignore_services=self.options.ignore_services,
        )

    def _judge(self) -> None:
        """Raise unless every move is staged, or those that failed may be left."""
        counts = self.run.counts()
        if CHANGED in counts and not self.options.stage_only:
            with self.catalog.read() as connection:
                raise stale(self.run, connection)
        if FAILED in counts and not (self.options.leave_failed and not self.options.stage_only):
            raise self._stage_failed(f"{count(counts[FAILED][0])} could not be staged")
        with self.run.writing() as connection:
            self.run.update(connection, staged_at=database_now(connection))

    def _limits(self) -> Limits:
        total = sum(count for state, (count, _size) in self.run.counts().items() if state != BLOCKED)
        failures = self.options.max_failures.of(total) if self.options.max_failures else None
        options = self.options
        return Limits(
            failures,
            options.max_document_size,
            options.memory,
            options.leave_failed,
            options.budget,
            RateLimit(options.max_rate),
        )

    def _stage_failed(self, what: str, hint: str | None = None) -> StageFailedError:
        counts = self.run.counts()
        failed, staged = counts[FAILED][0], counts.get(STAGED, (0, 0))[0]
        lines = [
            f"  {printable('/'.join(work.move.document))}: {work.reason}: {printable(work.detail or '')}"
            for work in self.run.named(FAILED, _SHOWN)
        ]
        if failed > _SHOWN:
            lines.append(f"  and {failed - _SHOWN} more: reconcile status {self.run.run_id}")
        return StageFailedError(
            f"{what}, so nothing was switched ({staged:,} are staged and stay so):\n" + "\n".join(lines),
            hint=hint or "mend the cause and run the same command again, or give --leave-failed to switch the others",
        )

    def _undo_path(self) -> Path:
        return self.options.undo_out or undo_path(Path(self.run.record.plan_path))

    def _check_undo_path(self) -> None:
        """Raise `PlanFileError` now rather than after all is copied, if the undo plan cannot be written."""
        folder = self._undo_path().absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PlanFileError(
                f"{folder}: the undo plan cannot be written there", hint="name another file with --undo-out"
            )

    def _write_undo_plan(self) -> None:
        record = self.run.record
        path = self._undo_path()
        digest = write_undo_plan(self.catalog, record, path, self.desired)
        with self.run.writing() as connection:
            self.run.update(connection, undo_path=str(path.absolute()), undo_digest=digest)
        log.info("undo plan written", phase="switch", path=str(path))

    def _clean(self) -> None:
        self.lock.check()
        rate = RateLimit(self.options.max_rate)
        Cleaner(self.run, self.desired, self._stores, self.control, self.options.pipelines, rate).clean()

    def _finish(self) -> Outcome:
        with self.run.writing() as connection:
            self.run.update(connection, state=DONE, finished_at=database_now(connection))
            if self.run.record.undo_of is not None:
                mark_undone(connection, self.run.record.undo_of)
        log.info("run finished", phase="done")
        with self.catalog.read() as connection:
            unreadable = unreadable_with(connection, self.desired.dest)
        return evolve(outcome_of(self.catalog, self.run.run_id), unreadable=unreadable)


def _nothing() -> None:
    """Watch nothing."""


def open_stores(run: Run, desired: DesiredState, options: RunOptions, *, create: bool) -> dict[str, Store]:
    """Open every store that the run's moves name; raises `BackendError` for one that is not usable."""
    pairs = run.backend_pairs()
    dests = {dest for _source, dest in pairs}
    stores = {}
    for name in sorted(dests | {source for source, _dest in pairs}):
        store = open_store(desired.places[name].backend, run.catalog, run.run_id)
        store.use(options.workers or store.default_workers)
        store.prepare(create=create and name in dests)
        stores[name] = store
    return stores
