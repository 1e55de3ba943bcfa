"""Stage: have every document copied to its destination and confirmed there. The catalog stays unchanged.

The moves are cut into parts, and a worker that claims a part stages it (`stage_part`); here it is decided how many
are worked on, and when to stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from attrs import define, field, frozen

from reconcile.engines import Engine
from reconcile.errors import TooManyFailuresError
from reconcile.formatting import count
from reconcile.logs import get_logger, is_fed
from reconcile.payload import LARGEST
from reconcile.running.phases.breaker import Health
from reconcile.running.phases.budget import Budget
from reconcile.running.phases.context import Phase
from reconcile.running.phases.copy_outcome import ROW_CHANGED
from reconcile.running.phases.dispatch import Carrier, Dispatch, threaded
from reconcile.running.phases.elsewhere import Job, elsewhere
from reconcile.running.phases.options import MEMORY_BYTES
from reconcile.running.phases.speed import Throttle
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record.parts import Fate, Part, PartResult, by_size
from reconcile.running.record.states import MoveState
from reconcile.running.record.tables import moves
from reconcile.running.record.work_moves import WorkMove
from reconcile.tallies import tallied

BATCH_DOCUMENTS = 250
_FEW_DOCUMENTS = 10  # of a part at least: each costs some statements
_PARTS_EACH = 4  # parts of each place at a worker, where there are few documents
_BATCHES_IN_MEMORY = 20  # those in hand, as read and as encoded, and what libraries hold of them
_LOGGED_OF_A_REASON = 20  # documents that fail for one reason; the run's record names all

log = get_logger()


@frozen
class Limits:
    """When staging stops early: after so many failed documents (None: never), or what ``budget`` allows.

    ``largest`` is a document's bytes, ``memory`` those of all documents worked on at once.
    """

    failures: int | None = None
    largest: int = LARGEST
    memory: int = MEMORY_BYTES
    leave_failed: bool = False
    budget: Budget = field(factory=Budget)
    rate: Throttle = field(factory=Throttle)


@define
class Stager(Phase):
    """The stage phase of one run."""

    limits: Limits = field(factory=Limits)
    may_overwrite: Callable[[str], bool] = lambda _place: True  # raises where the place is another by now
    engine: Engine | None = None
    workers: int | None = None
    _health: Health = field(init=False)
    _failures: int = 0
    _logged: Counter[str] = field(factory=Counter)

    def stage(self) -> None:
        """Stage every planned move, within the budget.

        Raises `BackendError` when a whole store fails, `Interrupted` on a signal.
        """
        if self.run.unfinished_others():
            self.run.index_places()
        counts = self.run.counts()
        documents, size = counts.get(MoveState.PLANNED, (0, 0))
        done, done_size = counts.get(MoveState.STAGED, (0, 0))
        if not documents:
            return
        self._health = Health(self.desired, self._sound() if done else set())
        self.control.progress.phase("stage", documents + done, size + done_size, (done, done_size))
        rate = self.limits.rate
        many = rate.batch(self._documents_of_part(documents))
        most = rate.batch_bytes(self.limits.memory // _BATCHES_IN_MEMORY)
        planned = self.run.outlines(MoveState.PLANNED, many)
        parts = self.limits.budget.in_time(by_size(self.limits.budget.spend(planned), many, most))
        engine = self._engine()
        with self._carrier(engine) as carrier:
            Dispatch(self.control, carrier, self._report, rate.hold).run(parts)
        self._health.check(at_end=not self.limits.leave_failed)

    def _documents_of_part(self, documents: int) -> int:
        """Return how many documents a part has at most: so few that each worker of many gets some."""
        width = self.engine.width() if self.engine is not None else 0
        if width == 0:  # threads of this process, or workers that are still to come
            return BATCH_DOCUMENTS
        return min(BATCH_DOCUMENTS, max(_FEW_DOCUMENTS, documents // (_PARTS_EACH * width)))

    def _engine(self) -> Engine | None:
        """Return the engine; None where content at the destination may have to make room: workers delete nothing."""
        others = bool(self.run.unfinished_others()) if self.engine is not None else False
        if self.engine is None or not (others or self.run.replaces()):
            return self.engine
        what = "copies of other unfinished runs" if others else "sources that an earlier run kept"
        why = f"{what} may have to be replaced, and workers delete nothing while they stage"
        self.control.progress.say(f"only this process stages: {why}")
        return None

    def _carrier(self, engine: Engine | None) -> AbstractContextManager[Carrier[PartResult]]:
        """Return who stages the parts: threads of this process, or workers elsewhere."""
        if engine is not None:
            return elsewhere(self.run, engine, Job("stage", PartResult, self.workers, self.limits.largest))
        stager = PartStager(self.context, self.limits.largest, self.may_overwrite)
        return threaded(self.pipelines, stager.stage)

    def _sound(self) -> set[str]:
        """Return the backends that documents of this run were staged from and to already."""
        return {name for pair in self.run.backend_pairs(moves.c.state == MoveState.STAGED) for name in pair}

    def _report(self, part: Part, result: PartResult) -> None:
        if result.documents < part.documents:  # another worker had done some of it, whose answer was lost
            result = self._from_record(part)
        counts = {MoveState.STAGED: 0, MoveState.FAILED: 0, MoveState.CHANGED: 0}
        for fate in result.fates:
            counts[fate.state] += fate.documents
            self._health.count(fate)
        self.limits.rate.settle(result.grown)
        self._name(result.failed)
        tallies = tallied(sums=((f.dest, f.state, f.why_failed, f.documents, f.size) for f in result.fates))
        fields = {"documents": result.documents, "bytes": result.size, "seconds": result.seconds, "tallies": tallies}
        log.info("batch staged", phase="stage", **fields, **counts)
        self.control.progress.advance(result.documents, result.size)
        self._health.check()
        self._failures += counts[MoveState.FAILED]
        if self.limits.failures is not None and self._failures > self.limits.failures:
            raise TooManyFailuresError(f"{count(self._failures)} could not be staged, more than --max-failures allows")

    def _from_record(self, part: Part) -> PartResult:
        """Return what came of a part by the record of its moves: those that are not there as failed were staged."""
        left = [work for state in (MoveState.FAILED, MoveState.CHANGED) for work in self._of(part, state)]
        fates = [
            Fate(w.move.source, w.move.dest, w.state, w.reason, documents=1, size=w.move.before.size or 0) for w in left
        ]
        staged = self._of(part, MoveState.STAGED)[: part.documents - len(left)]
        if staged:
            size = sum(work.move.before.size or 0 for work in staged)
            first = staged[0].move
            fates.append(Fate(first.source, first.dest, MoveState.STAGED, documents=len(staged), size=size))
        return PartResult(fates, [work.seq for work in left])

    def _of(self, part: Part, state: MoveState) -> list[WorkMove]:
        return self.run.between(state, part.first, part.last)

    def _name(self, failed: list[int]) -> None:
        """Tell of documents that were not staged, each with its reason."""
        logger = log.bind(phase="stage")
        for work in self.run.numbered(failed):
            move, reason = work.move, work.reason or ""
            fields = {"user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
            self._logged[reason] += 1
            is_seldom = reason != ROW_CHANGED and self._logged[reason] <= _LOGGED_OF_A_REASON
            say = logger.warning if is_seldom or is_fed() else logger.debug
            say("document not staged", reason=reason, detail=work.detail, **fields)
            if is_seldom and self._logged[reason] == _LOGGED_OF_A_REASON:
                logger.warning("more documents may fail like this; they are on record", reason=reason)
