"""Clean: delete the sources, after the switch has committed, under R3.

Here it is decided which sources stay: those that a catalog row refers to, that a later or unfinished run has to do
with, and that are at the same place as their copies. The others are deleted part by part (`clean_part`), as far as they
are what this run copied, their copies are intact, and where they lie is the place on record.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import sqlalchemy as sa
from attrs import define, field

from reconcile.control import RateLimit
from reconcile.engines import Engine
from reconcile.errors import BackendError, EngineError
from reconcile.logs import get_logger
from reconcile.running.phases.aliases import SamePlace
from reconcile.running.phases.clean_part import CleanedPart, PartCleaner, to_be_cleaned
from reconcile.running.phases.context import Phase
from reconcile.running.phases.dispatch import Carrier, Dispatch, threaded
from reconcile.running.phases.elsewhere import Job, elsewhere, refuse_crowding
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.references import (
    has_moved_on,
    is_referred_source,
    referred_by_other_names,
    staged_by_others,
)
from reconcile.running.record.parts import Part
from reconcile.running.record.states import Deleting, MoveState, Removal
from reconcile.running.record.tables import moves
from reconcile.running.record.work_moves import WorkMove
from reconcile.tallies import tallied

_PART_DOCUMENTS = 500
_BATCH_DOCUMENTS = 1000  # that are looked through at once where some may have to stay

# Why a source stays, as `reconcile.running.preview` says it too.
REFERRED, MOVED_ON = "a catalog row refers to it", "a later run has to do with it"
OTHER_NAME, STAGED_BY_ANOTHER = "a catalog row refers to it under another name", "another run has staged it"
ONE_PLACE = "source and destination are one place"
_STATE = "the catalog is switched; sources that are left are deleted by the same command"

log = get_logger()


@define
class Cleaner(Phase):
    """The clean phase of one run."""

    owner: Owner
    rate: RateLimit = field(factory=lambda: RateLimit(None))
    engine: Engine | None = None
    workers: int | None = None
    _refused: int = 0
    _first_refused: str = ""

    def clean(self) -> None:
        """Delete every source that may be deleted. Can be interrupted and resumed at any point."""
        if self.run.record.keep_source:
            return
        self._keep_referred()
        self._keep_moved_on()
        self._keep_located()
        if not self._count(*to_be_cleaned())[0]:
            return
        self.keep_workers_out()
        self._find_same_places()
        documents, size = self._count(*to_be_cleaned())
        self.owner.begin_phase(Deleting.CLEANING)
        self.control.progress.phase("clean", documents, size)
        before = self._deleted()
        parts = map(Part.of, self.run.outlines(MoveState.STAGED, self.rate.batch(_PART_DOCUMENTS), *to_be_cleaned()))
        engine = self._engine()
        try:
            with self._carrier(engine) as carrier:
                Dispatch(self.control, carrier, self._report, self.rate.hold, state_now=_STATE).run(parts)
        except BaseException:
            if engine is not None and self.run.executor is not None:
                self.run.executor.leave_workers(self.run.run_id)
            raise
        if engine is not None:
            self.owner.put_back()  # empty directories of workers, and what one left whose part another has done
        log.info("cleaned", phase="clean", documents=documents, deleted=self._deleted() - before)
        if self._refused:
            raise BackendError(
                f"the catalog is switched, but {self._refused:,} sources could not be deleted; the first: "
                + self._first_refused,
                hint="fix the cause and run the same command again, or with --keep-source to leave them",
            )

    def _engine(self) -> Engine | None:
        """Return the engine; None where it is not certain which place one is: workers do not know why."""
        if self.engine is None:
            return None
        if self.owner.unclaimed:
            self.control.progress.say("only this process cleans: not every place has this run's owner mark")
            return None
        try:
            refuse_crowding(self.run.catalog, self.engine, _STATE)
        except EngineError as error:
            self.control.progress.say(f"only this process cleans: {error.message}")
            return None
        return self.engine

    def _carrier(self, engine: Engine | None) -> AbstractContextManager[Carrier[CleanedPart]]:
        """Return who deletes: threads of this process, or workers elsewhere."""
        if engine is not None:
            return elsewhere(self.run, engine, Job("clean", CleanedPart, self.workers))
        return threaded(self.pipelines, PartCleaner(self.context, self.owner).clean)

    def _deleted(self) -> int:
        return self._count(moves.c.cleaned == Removal.DELETED)[0]

    def _count(self, *conditions: sa.ColumnElement[bool]) -> tuple[int, int]:
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0)).where(
            moves.c.run_id == self.run.run_id, moves.c.state == MoveState.STAGED, *conditions
        )
        with self.run.catalog.read(bulk=True) as connection:
            count, size = connection.execute(query).one()
        return int(count), int(size)

    def _keep_referred(self) -> None:
        """Keep sources that a catalog row refers to: one anti-join."""
        self._keep(REFERRED, is_referred_source())

    def _keep_moved_on(self) -> None:
        """Keep sources of documents that a later run moved, or at a place that one has to do with: they are its own."""
        later = self.run.later_runs()
        if not later:
            return
        self._keep(MOVED_ON, *has_moved_on(later))

    def _keep(self, why: str, *conditions: sa.ColumnElement[bool]) -> None:
        """Keep the sources that one of the conditions holds for."""
        still_to_clean = sa.and_(
            moves.c.run_id == self.run.run_id,
            moves.c.state == MoveState.STAGED,
            moves.c.cleaned.is_(None) | (moves.c.cleaned == Removal.MARKED),  # those to keep anyway get a reason
        )
        with self.run.writing(bulk=True) as connection:
            self.run.catalog.favour_hash_joins(connection)
            for condition in conditions:
                connection.execute(
                    sa.update(moves).where(still_to_clean, condition).values(cleaned=Removal.KEPT, detail=why)
                )

    def _keep_located(self) -> None:
        """Keep sources that rows refer to by another name than the rule's, or that other runs have staged."""
        sources = {source for source, _dest in self.run.backend_pairs()}
        addresses = [self.desired.places[name].address for name in sources]
        referred, staged = referred_by_other_names(self.run.catalog, addresses), staged_by_others(self.run)
        if not (referred or staged):
            return
        for batch in self.run.batches(MoveState.STAGED, _BATCH_DOCUMENTS, *to_be_cleaned()):
            kept = []
            for work in batch:
                move = work.move
                address = self.desired.places[move.source].address
                location = address.location(address.keys(move.before.content_url, move.document)[0])
                if location in referred or location in staged:
                    kept.append((work, OTHER_NAME if location in referred else STAGED_BY_ANOTHER))
            if not kept:
                continue
            with self.run.writing() as connection:
                rows = [{"seq": work.seq, "cleaned": Removal.KEPT, "detail": why} for work, why in kept]
                self.run.update_moves(connection, rows)
            for work, why in kept:
                _say_kept(work, why)

    def _find_same_places(self) -> None:
        """Keep what is at one place under two names: a marker written at one is seen at the other."""
        is_one = SamePlace(self.run.run_id, self.stores)
        for source, dest in self.run.backend_pairs(moves.c.state == MoveState.STAGED):
            if is_one(source, dest):
                why = f"{source} and {dest} are one place under two names; nothing is deleted there"
                self.control.progress.say(why)
                log.warning("sources kept", phase="clean", reason="same_place", source=source, dest=dest)
                self._keep(ONE_PLACE, sa.and_(moves.c.source == source, moves.c.dest == dest))
                with self.run.writing() as connection:
                    self.run.update(connection, remark=why)

    def _report(self, part: Part, cleaned: CleanedPart) -> None:
        for work in self.run.numbered(cleaned.kept):
            _say_kept(work, work.detail)
        refused = self.run.numbered(cleaned.refused)
        for work in refused:
            _say_kept(work, cleaned.detail)
        if refused and not self._refused:
            self._first_refused = f"{'/'.join(refused[0].move.document)}: {cleaned.detail}"
        self._refused += len(refused)
        tallies = tallied(sums=((r.source, r.state, None, r.documents, r.size) for r in cleaned.removed))
        done = {"documents": cleaned.documents, "deleted": cleaned.deleted, "seconds": cleaned.seconds}
        log.info("batch cleaned", phase="clean", tallies=tallies, **done)
        self.control.progress.advance(part.documents, part.size if cleaned.documents < len(part) else cleaned.size)


def _say_kept(work: WorkMove, why: str | None) -> None:
    move = work.move
    fields = {"phase": "clean", "user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
    log.warning("source kept", reason=why, source=move.before.content_url, **fields)
