"""Clean: delete the sources, after the switch has committed, under R3.

What is deleted is what this run copied (same version still), whose copy is seen to be intact in the same batch, that no
catalog row refers to, that no unfinished run has staged, and that is really another place than the destination. Where
a source lies must be the place on record, and this run's by its owner mark.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from attrs import define, field

from reconcile.catalog.tables import archive_metadata
from reconcile.control import RateLimit, in_parallel
from reconcile.errors import BackendError, SupersededError, UnconfirmedError
from reconcile.logs import get_logger, printable
from reconcile.running.phases.aliases import SamePlace
from reconcile.running.phases.context import Phase
from reconcile.running.phases.counterparts import look_at_copies
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.references import (
    has_moved_on,
    is_referred_source,
    referred_by_other_names,
    staged_by_others,
)
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.states import Deleting, MoveState, Removal, RunState
from reconcile.running.record.tables import moves, runs, same_row
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Known, Location
from reconcile.tallies import tallied
from reconcile.wording import count

_BATCH_DOCUMENTS = 500
NOT_INTACT = "its copy is not intact: this may be the last one"
NOT_FOUND = "it was not found, and whether the place is the one on record is not certain"

# Why a source stays, as `reconcile.running.preview` says it too.
REFERRED, MOVED_ON = "a catalog row refers to it", "a later run has to do with it"
OTHER_NAME, STAGED_BY_ANOTHER = "a catalog row refers to it under another name", "another run has staged it"

log = get_logger()


@define
class Cleaner(Phase):
    """The clean phase of one run."""

    owner: Owner
    rate: RateLimit = field(factory=lambda: RateLimit(None))
    _same_place: SamePlace = field(init=False)
    _referred: set[Location] = field(factory=set)
    _staged: set[Location] = field(factory=set)
    _refused: list[str] = field(factory=list)
    _begun: dict[int, float] = field(factory=dict)
    _deleted: int = 0

    def clean(self) -> None:
        """Delete every source that may be deleted. Can be interrupted and resumed at any point."""
        if self.run.record.keep_source:
            return
        self._keep_referred()
        self._keep_moved_on()
        sources = {source for source, _dest in self.run.backend_pairs()}
        self._referred = referred_by_other_names(
            self.run.catalog, [self.desired.places[name].address for name in sources]
        )
        self._staged = staged_by_others(self.run)
        to_do = (moves.c.cleaned.is_(None) | (moves.c.cleaned == Removal.MARKED), ~moves.c.keep)
        documents, size = self._count(*to_do)
        if not documents:
            return
        self.keep_workers_out()
        self._find_same_places()
        self.owner.begin_phase(Deleting.CLEANING)
        self.control.progress.phase("clean", documents, size)
        batches = self.run.batches(MoveState.STAGED, self.rate.batch(_BATCH_DOCUMENTS), *to_do)
        in_parallel(self.control, self.pipelines, batches, self._clean_batch, self._report, self.rate.hold)
        log.info("cleaned", phase="clean", documents=documents, deleted=self._deleted)
        if self._refused:
            raise BackendError(
                f"the catalog is switched, but {len(self._refused)} sources could not be deleted; the first: "
                + self._refused[0],
                hint="fix the cause and run the same command again, or with --keep-source to leave them",
            )

    def _count(self, *conditions: sa.ColumnElement[bool]) -> tuple[int, int]:
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0)).where(
            moves.c.run_id == self.run.run_id, moves.c.state == MoveState.STAGED, *conditions
        )
        with self.run.catalog.read() as connection:
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
            moves.c.cleaned.is_(None) | (moves.c.cleaned == Removal.MARKED),
        )
        with self.run.writing(bulk=True) as connection:
            self.run.catalog.favour_hash_joins(connection)
            for condition in conditions:
                connection.execute(
                    sa.update(moves).where(still_to_clean, condition).values(cleaned=Removal.KEPT, detail=why)
                )

    def _find_same_places(self) -> None:
        """Find stores that are one place under two names: a marker written at one is seen at the other."""
        self._same_place = SamePlace(self.run.run_id, self.stores)
        for source, dest in self.run.backend_pairs(moves.c.state == MoveState.STAGED):
            if self._same_place(source, dest):
                why = f"{source} and {dest} are one place under two names; nothing is deleted there"
                self.control.progress.say(why)
                log.warning("sources kept", phase="clean", reason="same_place", source=source, dest=dest)
                with self.run.writing() as connection:
                    self.run.update(connection, remark=why)

    def _clean_batch(self, batch: list[WorkMove]) -> list[tuple[WorkMove, str, str | None]]:
        self._begun[batch[0].seq] = time.monotonic()
        by_source: dict[str, dict[Any, list[WorkMove]]] = {}
        results: list[tuple[WorkMove, str, str | None]] = []
        doomed = []
        back = self._pointing_back(batch)
        for work in batch:
            key, why = self._deletable(work)
            if work.move.before.content_url in back:
                why = "its catalog row refers to it again"
            if why:
                results.append((work, Removal.KEPT, why))
            else:
                doomed.append((key, work))
        last = self._last_copies([work for _key, work in doomed])
        for key, work in doomed:
            if work.seq in last:
                results.append((work, Removal.KEPT, NOT_INTACT))
            else:
                by_source.setdefault(work.move.source, {}).setdefault(key, []).append(work)
        for source, keys in by_source.items():
            results += self._delete(source, keys)
        with self.run.writing() as connection:
            self.run.update_moves(
                connection, [{"seq": work.seq, "cleaned": state, "detail": why} for work, state, why in results]
            )
        return results

    def _last_copies(self, works: list[WorkMove]) -> set[int]:
        """Return the seqs whose sources must stay, since their copies are gone or are something else.

        Rows of one source stay together. Raises `UnconfirmedError` where not one copy of a batch is intact: then it is
        the destination that is not what it was.
        """
        if not works:
            return set()
        looked = look_at_copies(self.run, self.desired, self.stores, works)
        if looked.broken and looked.broken == looked.concerned:
            places = ", ".join(sorted({self.stores[work.move.dest].address.identity for work in works}))
            first = next(work for work in works if work.seq in looked.broken)
            raise UnconfirmedError(
                f"the catalog is switched, but of {count(len(looked.broken), 'copy', 'copies')} that were looked"
                f" at, none is intact at {places}; the sources are kept. The first:"
                f" {printable('/'.join(first.move.document))}",
                hint="find out what became of the copies\n"
                f"{undo_command(self.run.record)}    leads the rows back to the sources that are there",
            )
        urls = {work.move.before.content_url for work in works if work.seq in looked.broken}
        return {work.seq for work in works if work.move.before.content_url in urls}

    @carries_out(Step.DELETE)
    def _delete(self, source: str, keys: dict[Any, list[WorkMove]]) -> list[tuple[WorkMove, str, str | None]]:
        """Delete sources at one place, and say what became of each."""
        results: list[tuple[WorkMove, str, str | None]] = []
        store = self.stores[source]
        if not self.owner.is_confirmed(source):
            present = store.look(list(keys))
            if present:
                self.owner.check(source)  # which raises: the place is not certain
            return [(work, Removal.KEPT, NOT_FOUND) for works in keys.values() for work in works]
        shared = self.owner.why_not_delete(source)
        if shared:
            return [(work, Removal.KEPT, shared) for works in keys.values() for work in works]
        self.owner.check(source)
        for dest in {work.move.dest for works in keys.values() for work in works}:
            self.owner.check(dest, deletes=False)
        try:
            store.ready_to_delete()
        except BackendError as refused:
            self._refused += [f"{'/'.join(works[0].move.document)}: {refused.message}" for works in keys.values()]
            return []
        self._mark([work for works in keys.values() for work in works])
        known = [Known(key, works[0].source_version or "") for key, works in keys.items()]
        for key, error in store.delete(known).items():
            state, why = (Removal.KEPT, error.detail) if error else (Removal.DELETED, None)
            if error and error.reason in ("refused", "unserved"):  # the store's trouble: to be tried again
                state = Removal.MARKED
                self._refused.append(f"{'/'.join(keys[key][0].move.document)}: {error.detail}")
            results += [(work, state, why) for work in keys[key]]
        return results

    def _pointing_back(self, batch: list[WorkMove]) -> set[str]:
        """Return the sources that their own rows lead to again: a service with the old config wrote there."""
        query = (
            sa.select(moves.c.before_url)
            .join(archive_metadata, same_row(archive_metadata))
            .where(
                moves.c.run_id == self.run.run_id,
                moves.c.seq.between(batch[0].seq, batch[-1].seq),
                archive_metadata.c.content_url == moves.c.before_url,
            )
        )
        with self.run.writing() as connection:  # nobody may answer this from a replica that lags behind
            return set(connection.execute(query).scalars())

    def _deletable(self, work: WorkMove) -> tuple[Any, str | None]:
        move = work.move
        address = self.desired.places[move.source].address
        key = address.keys(move.before.content_url, move.document)[0]
        if self._same_place(move.source, move.dest):
            return key, "source and destination are one place"
        if address.location(key) in self._referred:
            return key, OTHER_NAME
        if address.location(key) in self._staged:
            return key, STAGED_BY_ANOTHER
        return key, None

    @carries_out(Step.MARK)
    def _mark(self, works: list[WorkMove]) -> None:
        """Mark before deleting, and only while the run is still the one to clean.

        Whoever takes over treats what is marked, and not recorded as deleted, as what may still vanish.
        """
        with self.run.writing() as connection:
            state = connection.execute(sa.select(runs.c.state).where(runs.c.run_id == self.run.run_id)).scalar_one()
            if state != RunState.SWITCHED:
                raise SupersededError(f"run {self.run.run_id} is {state}: it may not clean any more")
            self.run.update_moves(connection, [{"seq": work.seq, "cleaned": Removal.MARKED} for work in works])

    def _report(self, results: list[tuple[WorkMove, str, str | None]]) -> None:
        deleted = sum(state == Removal.DELETED for _work, state, _why in results)
        self._deleted += deleted
        for work, state, why in results:
            move = work.move
            fields = {"phase": "clean", "user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
            if state != Removal.DELETED:
                log.warning("source kept", reason=why, source=move.before.content_url, **fields)
            else:
                log.debug("source deleted", source=move.before.content_url, **fields)
        tallies = tallied((w.move.source, state, None, w.move.before.size) for w, state, _why in results)
        begun = self._begun.pop(min((work.seq for work, _state, _why in results), default=-1), None)
        seconds = None if begun is None else round(time.monotonic() - begun, 4)
        done = {"documents": len(results), "deleted": deleted, "seconds": seconds}
        log.info("batch cleaned", phase="clean", tallies=tallies, **done)
        self.control.progress.advance(len(results), sum(work.move.before.size or 0 for work, _s, _w in results))
