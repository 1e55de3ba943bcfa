"""Clean a part of a run: delete those of its sources that may be deleted (R3).

Each copy is seen to be intact, and each place to be the one on record, in the same batch as the delete. What is to be
deleted is marked first: whoever takes over then knows what may still vanish.
"""

from __future__ import annotations

import time
from collections import Counter

import sqlalchemy as sa
from attrs import define, field, frozen

from reconcile.catalog.tables import archive_metadata
from reconcile.errors import BackendError, SupersededError, UnconfirmedError
from reconcile.formatting import count
from reconcile.logs import get_logger, printable
from reconcile.running.phases.context import Phase
from reconcile.running.phases.counterparts import look_at_copies
from reconcile.running.phases.place_check import PlaceCheck, marked_keys
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record import late_requests
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.parts import Part
from reconcile.running.record.states import MoveState, Removal, RunState
from reconcile.running.record.tables import moves, runs, same_row
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Known
from reconcile.stores.addresses import Key

NOT_INTACT = "its copy is not intact: this may be the last one"
NOT_FOUND = "it was not found, and whether the place is the one on record is not certain"
POINTS_BACK = "its catalog row refers to it again"

log = get_logger()


def to_be_cleaned() -> list[sa.ColumnElement[bool]]:
    """Return the conditions of staged moves whose sources are still to be deleted."""
    return [moves.c.cleaned.is_(None) | (moves.c.cleaned == Removal.MARKED), ~moves.c.keep]


@frozen
class Removed:
    """How many sources at one place were deleted, or kept; or are still marked, since the store refused."""

    source: str
    state: Removal
    documents: int
    size: int


@frozen
class CleanedPart:
    """What came of a part. ``kept`` are the numbers of moves whose sources stay, ``refused`` of those to try again.

    ``detail`` is what the store said to the first of these; ``seconds`` is how long the part took.
    """

    removed: list[Removed]
    kept: list[int] = field(factory=list)
    refused: list[int] = field(factory=list)
    detail: str = ""
    seconds: float = 0.0

    @property
    def documents(self) -> int:
        """How many moves it was."""
        return sum(removed.documents for removed in self.removed)

    @property
    def size(self) -> int:
        """Their documents' bytes, as far as the catalog knows them."""
        return sum(removed.size for removed in self.removed)

    @property
    def deleted(self) -> int:
        """How many sources are gone."""
        return sum(removed.documents for removed in self.removed if removed.state == Removal.DELETED)


@frozen
class _Result:
    """What came of one source, and ``why``. ``state`` None: its store was not asked to delete it, and is to be."""

    work: WorkMove
    state: Removal | None
    why: str | None = None


@define
class PartCleaner(Phase):
    """Cleans parts of one run, on as many threads at once as call it."""

    places: PlaceCheck

    def clean(self, part: Part) -> CleanedPart:
        """Delete what may be deleted, and record what came of each.

        Raises `UnconfirmedError` where not one copy is intact, `PlaceChangedError` where a place is another.
        """
        begun = time.monotonic()
        batch = self.run.between(MoveState.STAGED, part.first, part.last, *to_be_cleaned())
        if not batch:
            return CleanedPart([])
        self._take_over(part)
        back = self._pointing_back(batch)
        results = [_Result(w, Removal.KEPT, POINTS_BACK) for w in batch if w.move.before.content_url in back]
        doomed = [work for work in batch if work.move.before.content_url not in back]
        last = self._last_copies(doomed)
        by_source: dict[str, dict[Key, list[WorkMove]]] = {}
        for work in doomed:
            if work.seq in last:
                results.append(_Result(work, Removal.KEPT, NOT_INTACT))
            else:
                by_source.setdefault(work.move.source, {}).setdefault(self._key(work), []).append(work)
        for source, keys in by_source.items():
            results += self._delete(source, keys)
        with self.run.writing() as connection:
            rows = [{"seq": r.work.seq, "cleaned": r.state, "detail": r.why} for r in results if r.state is not None]
            self.run.update_moves(connection, rows)
        return _outcome(results, round(time.monotonic() - begun, 4))

    def _take_over(self, part: Part) -> None:
        """Undo what a worker left half done that had this part before, if there was one.

        Files that it took aside get their names back, and it takes no more aside. What it has sent may arrive yet.
        """
        claim, executor = self.run.claim, self.run.executor
        if claim is None or executor is None or not claim.taken_from:
            return
        keys: dict[str, list[Key]] = {}
        for work in self.run.between(MoveState.STAGED, part.first, part.last, moves.c.cleaned == Removal.MARKED):
            keys.setdefault(work.move.source, []).append(self._key(work))
        for source in keys:
            self.stores[source].give_back(marked_keys(self.run, self.stores[source]), claim.taken_from)
        with self.run.writing() as connection:
            claim.settle(connection, executor.folder)
            for source, sent in keys.items():
                late_requests.note(connection, self.stores[source].address, sent, answered=False)

    def _key(self, work: WorkMove) -> Key:
        move = work.move
        return self.desired.places[move.source].address.keys(move.before.content_url, move.document)[0]

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
    def _delete(self, source: str, keys: dict[Key, list[WorkMove]]) -> list[_Result]:
        """Delete sources at one place, and say what became of each."""
        store, everything = self.stores[source], [work for works in keys.values() for work in works]
        if not self.places.is_confirmed(source):
            present = store.look(list(keys))
            if present:
                self.places.check(source)  # which raises: the place is not certain
            return [_Result(work, Removal.KEPT, NOT_FOUND) for work in everything]
        shared = self.places.why_not_delete(source)
        if shared:
            return [_Result(work, Removal.KEPT, shared) for work in everything]
        self.places.check(source)
        for dest in {work.move.dest for work in everything}:
            self.places.check(dest, deletes=False)
        try:
            store.ready_to_delete()
        except BackendError as refused:
            return [_Result(work, None, refused.message) for work in everything]
        self._mark(everything)
        known = [Known(key, works[0].source_version or "") for key, works in keys.items()]
        results = []
        for key, error in store.delete(known).items():
            state, why = (Removal.KEPT, error.detail) if error else (Removal.DELETED, None)
            if error and error.reason in ("refused", "unserved"):  # the store's trouble: to be tried again
                state = Removal.MARKED
            results += [_Result(work, state, why) for work in keys[key]]
        return results

    def _pointing_back(self, batch: list[WorkMove]) -> set[str]:
        """Return the sources that their own rows lead to again: a service with the old config wrote there."""
        query = (
            sa.select(moves.c.before_url)
            .join(archive_metadata, same_row(archive_metadata))
            .where(
                moves.c.run_id == self.run.run_id,
                moves.c.seq.between(batch[0].seq, batch[-1].seq),  # also of moves that are kept, and share a source
                archive_metadata.c.content_url == moves.c.before_url,
            )
        )
        with self.run.writing(limited=False) as connection:  # no replica that lags behind may answer this
            return set(connection.execute(query).scalars())

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


def _outcome(results: list[_Result], seconds: float) -> CleanedPart:
    documents, sizes = Counter[tuple[str, Removal]](), Counter[tuple[str, Removal]]()
    debug = log.bind(phase="clean").debug
    for result in results:
        kind = (result.work.move.source, result.state or Removal.MARKED)
        documents[kind] += 1
        sizes[kind] += result.work.move.before.size or 0
        if result.state == Removal.DELETED:
            move = result.work.move
            fields = {"user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
            debug("source deleted", source=move.before.content_url, **fields)
    refused = [result for result in results if result.state in (None, Removal.MARKED)]
    return CleanedPart(
        [Removed(source, state, number, sizes[source, state]) for (source, state), number in documents.items()],
        [result.work.seq for result in results if result.state == Removal.KEPT],
        [result.work.seq for result in refused],
        refused[0].why or "" if refused else "",
        seconds,
    )
