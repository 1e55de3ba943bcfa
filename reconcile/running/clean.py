"""Clean: delete the sources, after the switch has committed, under R3.

What is deleted is what this run copied (same version still), that no catalog row refers to, that no unfinished
run has staged, and that is really another place than the destination.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from attrs import define, field

from reconcile.catalog.tables import archive_metadata
from reconcile.control import Control, RateLimit, at_rate, in_parallel
from reconcile.errors import BackendError, SupersededError
from reconcile.logs import get_logger
from reconcile.planning.desired import DesiredState
from reconcile.running.references import referred_by_other_names, staged_by_others
from reconcile.running.run import Run
from reconcile.running.same_place import SamePlace
from reconcile.running.worktables import DELETED, KEPT, MARKED, STAGED, SWITCHED, WorkMove, moves, runs, same_row
from reconcile.stores import Known, Location, Store

_BATCH_DOCUMENTS = 500

log = get_logger()


@define
class Cleaner:
    """The clean phase of one run."""

    run: Run
    desired: DesiredState
    stores: Mapping[str, Store]
    control: Control
    pipelines: int
    rate: RateLimit = field(factory=lambda: RateLimit(None))
    _same_place: SamePlace = field(init=False)
    _referred: set[Location] = field(factory=set)
    _staged: set[Location] = field(factory=set)
    _refused: list[str] = field(factory=list)

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
        to_do = (moves.c.cleaned.is_(None) | (moves.c.cleaned == MARKED), ~moves.c.keep)
        documents, size = self._count(*to_do)
        if not documents:
            return
        self._find_same_places()
        self.control.progress.phase("clean", documents, size)
        batches = self.run.batches(STAGED, self.rate.batch(_BATCH_DOCUMENTS), *to_do)
        in_parallel(
            self.control, self.pipelines, at_rate(self.control, self.rate, batches), self._clean_batch, self._report
        )
        if self._refused:
            raise BackendError(
                f"the catalog is switched, but {len(self._refused)} sources could not be deleted; the first: "
                + self._refused[0],
                hint="mend the cause and run the same command again, or with --keep-source to leave them",
            )

    def _count(self, *conditions: sa.ColumnElement[bool]) -> tuple[int, int]:
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0)).where(
            moves.c.run_id == self.run.run_id, moves.c.state == STAGED, *conditions
        )
        with self.run.catalog.read() as connection:
            count, size = connection.execute(query).one()
        return int(count), int(size)

    def _keep_referred(self) -> None:
        """Keep sources that a catalog row refers to: one anti-join."""
        refers = moves.c.before_url.in_(sa.select(archive_metadata.c.content_url))
        self._keep("a catalog row refers to it", refers)

    def _keep_moved_on(self) -> None:
        """Keep sources of documents that a later run moved, or at a place that one has to do with: they are its own."""
        later = self.run.later_runs()
        if not later:
            return
        theirs = moves.alias("theirs")
        named = sa.and_(theirs.c.run_id.in_(later), theirs.c.state == STAGED)
        key = ("user_id", "bucket", "archive_id", "document_name")
        conditions: list[sa.ColumnElement[bool]] = [
            sa.exists().where(named, *(theirs.c[name] == moves.c[name] for name in key)),
            moves.c.before_url.in_(sa.select(theirs.c.before_url).where(named)),
            moves.c.before_url.in_(sa.select(theirs.c.after_url).where(named)),
        ]
        self._keep("a later run has to do with it", *conditions)

    def _keep(self, why: str, *conditions: sa.ColumnElement[bool]) -> None:
        """Keep the sources that one of the conditions holds for."""
        still_to_clean = sa.and_(
            moves.c.run_id == self.run.run_id,
            moves.c.state == STAGED,
            moves.c.cleaned.is_(None) | (moves.c.cleaned == MARKED),
        )
        with self.run.writing(bulk=True) as connection:
            self.run.catalog.favour_hash_joins(connection)
            for condition in conditions:
                connection.execute(sa.update(moves).where(still_to_clean, condition).values(cleaned=KEPT, detail=why))

    def _find_same_places(self) -> None:
        """Find stores that are one place under two names: a marker written at one is seen at the other."""
        self._same_place = SamePlace(self.stores)
        for source, dest in self.run.backend_pairs(moves.c.state == STAGED):
            if self._same_place(source, dest):
                why = f"{source} and {dest} are one place under two names; nothing is deleted there"
                self.control.progress.say(why)
                log.warning("sources kept", phase="clean", reason="same_place", source=source, dest=dest)
                with self.run.writing() as connection:
                    self.run.update(connection, remark=why)

    def _clean_batch(self, batch: list[WorkMove]) -> list[tuple[WorkMove, str, str | None]]:
        by_source: dict[str, dict[Any, list[WorkMove]]] = {}
        results: list[tuple[WorkMove, str, str | None]] = []
        back = self._pointing_back(batch)
        for work in batch:
            key, why = self._deletable(work)
            if work.move.before.content_url in back:
                why = "its catalog row refers to it again"
            if why:
                results.append((work, KEPT, why))
            else:
                by_source.setdefault(work.move.source, {}).setdefault(key, []).append(work)
        self._mark([work for keys in by_source.values() for works in keys.values() for work in works])
        for source, keys in by_source.items():
            known = [Known(key, works[0].source_version or "") for key, works in keys.items()]
            for key, error in self.stores[source].delete(known).items():
                state, why = (KEPT, error.detail) if error else (DELETED, None)
                if error and error.reason in ("refused", "unserved"):  # the store's trouble: to be tried again
                    state = MARKED
                    self._refused.append(f"{'/'.join(keys[key][0].move.document)}: {error.detail}")
                results += [(work, state, why) for work in keys[key]]
        with self.run.writing() as connection:
            self.run.update_moves(
                connection, [{"seq": work.seq, "cleaned": state, "detail": why} for work, state, why in results]
            )
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
        with self.run.catalog.read() as connection:
            return set(connection.execute(query).scalars())

    def _deletable(self, work: WorkMove) -> tuple[Any, str | None]:
        move = work.move
        address = self.desired.places[move.source].address
        key = address.keys(move.before.content_url, move.document)[0]
        if self._same_place(move.source, move.dest):
            return key, "source and destination are one place"
        if address.location(key) in self._referred:
            return key, "a catalog row refers to it under another name"
        if address.location(key) in self._staged:
            return key, "another run has staged it"
        return key, None

    def _mark(self, works: list[WorkMove]) -> None:
        """Mark before deleting, and only while the run is still the one to clean."""
        with self.run.writing() as connection:
            state = connection.execute(sa.select(runs.c.state).where(runs.c.run_id == self.run.run_id)).scalar_one()
            if state != SWITCHED:
                raise SupersededError(f"run {self.run.run_id} is {state}: it may not clean any more")
            self.run.update_moves(connection, [{"seq": work.seq, "cleaned": MARKED} for work in works])

    def _report(self, results: list[tuple[WorkMove, str, str | None]]) -> None:
        deleted = sum(state == DELETED for _work, state, _why in results)
        for work, state, why in results:
            move = work.move
            fields = {"phase": "clean", "user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
            if state != DELETED:
                log.warning("source kept", reason=why, source=move.before.content_url, **fields)
            else:
                log.debug("source deleted", source=move.before.content_url, **fields)
        log.info("batch cleaned", phase="clean", documents=len(results), deleted=deleted)
        self.control.progress.advance(len(results), sum(work.move.before.size or 0 for work, _s, _w in results))
