"""Drop the staged copies of a run that never switched: the undo of such a run.

Deleted is what this run wrote, or was about to write, and still holds what it wrote; what it adopted, what
another run took over, and what a catalog row refers to stays. So does a copy whose source is not intact: it may be the
last one. That is how a database that is older than its stores shows: its rows lead to sources that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import sqlalchemy as sa
from attrs import define, field

from reconcile.catalog.tables import archive_metadata
from reconcile.control import in_parallel
from reconcile.errors import DocumentError, PlaceChangedError, SupersededError
from reconcile.formatting import count
from reconcile.logs import get_logger
from reconcile.payload import md5, recode
from reconcile.running.phases.context import Phase
from reconcile.running.phases.counterparts import look_at_sources
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.references import referred_by_other_names, staged_by_others
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record.next_steps import apply_command
from reconcile.running.record.states import Deleting, MoveState, Origin, Removal, RunState
from reconcile.running.record.tables import moves, runs, same_row
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Content, Known, Location, Stat
from reconcile.stores.addresses import Key
from reconcile.tallies import tallied

_BATCH_DOCUMENTS = 200

log = get_logger()


@define
class _Dropped:
    """What became of a batch: copies that are gone, that are not what was written, and that are the last ones."""

    gone: list[WorkMove] = field(factory=list)
    left: list[WorkMove] = field(factory=list)
    last: list[WorkMove] = field(factory=list)


@define
class Dropper(Phase):
    """Undoes the stage phase of one run."""

    owner: Owner
    left: list[str] = field(factory=list)
    last: list[str] = field(factory=list)
    _not_ours: set[Location] = field(factory=set)

    def drop(
        self, states: Sequence[MoveState] = (MoveState.STAGED, MoveState.PLANNED, MoveState.FAILED, MoveState.CHANGED)
    ) -> None:
        """Delete the run's own copies, those of moves in these states.

        ``left`` names those that are no longer what was written, ``last`` those whose sources are not intact: both
        stay. Raises `PlaceChangedError` where not one source of a batch is there.
        """
        self._give_up_referred(states)
        addresses = [self.desired.places[name].address for name in self.stores]
        self._not_ours = referred_by_other_names(self.run.catalog, addresses) | staged_by_others(self.run)
        ours = moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN))
        counts = self.run.counts()
        documents, size = (sum(counts.get(state, (0, 0))[part] for state in states) for part in (0, 1))
        self.keep_workers_out()
        self.owner.begin_phase(Deleting.DROPPING)
        self.control.progress.phase("drop copies", documents, size)
        for state in states:
            batches = self.run.batches(state, _BATCH_DOCUMENTS, ours)
            in_parallel(self.control, self.pipelines, batches, self._drop_batch, self._report)

    def _give_up_referred(self, states: Sequence[MoveState]) -> None:
        """Let go of copies that are not ours to delete (R3): a row refers to them by now, or another move of this run.

        Where a move keeps its URL, at another endpoint, its own row means the source: the run never switched.
        """
        ours = sa.and_(moves.c.state.in_(states), moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN)))
        mine = sa.and_(moves.c.run_id == self.run.run_id, ours)
        keeps_url = moves.c.before_url == moves.c.after_url
        theirs, another = archive_metadata.c.content_url == moves.c.after_url, moves.alias("another")
        conditions: list[sa.ColumnElement[bool]] = [
            sa.and_(~keeps_url, moves.c.after_url.in_(sa.select(archive_metadata.c.content_url))),
            sa.and_(keeps_url, sa.exists().where(theirs, ~same_row(archive_metadata))),
            sa.exists().where(
                another.c.run_id == moves.c.run_id,
                another.c.dest_key == moves.c.dest_key,
                another.c.dest_store == moves.c.dest_store,
                another.c.state.not_in(states),
            ),
        ]
        with self.run.writing(bulk=True) as connection:
            self.run.catalog.favour_hash_joins(connection)
            for condition in conditions:
                connection.execute(sa.update(moves).where(mine, condition).values(origin=Origin.CEDED))

    def _drop_batch(self, batch: list[WorkMove]) -> _Dropped:
        last = self._last_copies(batch)
        dropped = _Dropped(last=[work for work in batch if work.seq in last])
        groups: dict[tuple[str, str], dict[Key, list[WorkMove]]] = {}
        for work in batch:
            if work.seq not in last:
                address = self.desired.places[work.move.dest].address
                key = address.keys(work.move.after.content_url, work.move.document)[0]
                groups.setdefault((work.move.source, work.move.dest), {}).setdefault(key, []).append(work)
        for (source, dest), works in groups.items():
            self._drop_group(source, dest, works, dropped)
        with self.run.writing() as connection:
            self.run.update_moves(
                connection,
                [
                    {
                        "seq": w.seq,
                        "state": MoveState.CHANGED if w.state == MoveState.CHANGED else MoveState.PLANNED,
                        "origin": None,
                        "cleaned": None,
                    }
                    for w in dropped.gone
                ],
            )
            self.run.update_moves(connection, [{"seq": w.seq, "cleaned": None} for w in dropped.left])
        return dropped

    def _drop_group(self, source: str, dest: str, works: dict[Key, list[WorkMove]], dropped: _Dropped) -> None:
        """Delete the copies at one place, as far as they are this run's own."""
        store = self.stores[dest]
        present = store.look(list(works), digest=True)
        known = []
        for key, rows in works.items():
            stat = present.get(key)
            if stat is None or store.address.location(key) in self._not_ours:
                dropped.gone += rows  # never came to be, or somebody else's by now
            elif stat.version and self._is_ours(rows[0], stat, source):
                known.append(Known(key, stat.version))
            else:
                dropped.left += rows
        store.remove_temporaries(list(works))
        if not known:
            return
        if self.owner.why_not_delete(dest):
            dropped.left += [work for content in known for work in works[content.key]]
            return
        self.owner.check(dest)
        self.owner.check(source, deletes=False)
        store.ready_to_delete()
        self._mark([work for content in known for work in works[content.key]])
        for key, error in store.delete(known).items():
            (dropped.left if error else dropped.gone).extend(works[key])

    def _last_copies(self, batch: list[WorkMove]) -> set[int]:
        """Return the seqs whose copies must stay, since their rows lead to sources that are not intact."""
        looked = look_at_sources(self.run, self.desired, self.stores, batch)
        there = self._with_copies([work for work in batch if work.seq in looked.broken])
        if there and looked.absent == looked.concerned:
            raise PlaceChangedError(
                f"of {count(len(looked.absent), 'source')} that were checked none exists, but {len(there):,} "
                "of their copies do: this database is older than the stores, where the run had progressed "
                "further. No copy was deleted",
                hint=f"{apply_command(self.run.record)}    points the rows of this database at the copies too",
            )
        return there

    def _with_copies(self, works: list[WorkMove]) -> set[int]:
        """Return the seqs at whose destination something is."""
        found = set()
        for dest in {work.move.dest for work in works}:
            address = self.stores[dest].address
            here = [work for work in works if work.move.dest == dest]
            keys = {w.seq: address.keys(w.move.after.content_url, w.move.document)[0] for w in here}
            present = self.stores[dest].look(list(set(keys.values())))
            found |= {seq for seq, key in keys.items() if key in present}
        return found

    @carries_out(Step.MARK)
    def _mark(self, works: list[WorkMove]) -> None:
        """Mark before deleting: whoever takes over waits for what may still arrive at these keys."""
        with self.run.writing() as connection:
            state = connection.execute(sa.select(runs.c.state).where(runs.c.run_id == self.run.run_id)).scalar_one()
            if state not in (RunState.STAGING, RunState.UNDOING):
                raise SupersededError(
                    f"run {self.run.run_id} is {state}: its copies may no longer be deleted; nothing was deleted"
                )
            self.run.update_moves(connection, [{"seq": work.seq, "cleaned": Removal.MARKED} for work in works])

    def _is_ours(self, work: WorkMove, stat: Stat, source: str) -> bool:
        """Tell whether what is there is what we wrote, or would have written."""
        if self._is_linked(work, source):
            return True
        if work.origin == Origin.WRITTEN and work.after_digest is not None:
            return self._holds(work, stat, work.after_digest)
        return self._is_the_planned_document(work) or self._is_the_source_encoded(work, stat, source)

    def _is_linked(self, work: WorkMove, source: str) -> bool:
        """Tell whether the copy is a link that we made of its source: it changes with it, and stays ours."""
        move, here, there = work.move, self.stores[source], self.stores[work.move.dest]
        old = here.address.keys(move.before.content_url, move.document)[0]
        return there.shares_bytes(there.address.keys(move.after.content_url, move.document)[0], here, old)

    def _is_the_planned_document(self, work: WorkMove) -> bool:
        """Tell whether the copy is of the document that the plan saw, though its source may hold another by now."""
        move, dest = work.move, self.stores[work.move.dest]
        key = dest.address.keys(move.after.content_url, move.document)[0]
        content = dest.read([key])[key]
        if move.before.digest is None or not isinstance(content, Content):
            return False
        pinned = move.after.pinned
        compressed = bool(pinned.is_compressed) if pinned else move.after.compressed
        for encoding in (True, False) if compressed is None else (compressed,):
            with suppress(DocumentError):
                back = recode(content.data, is_compressed=encoding, compressed=bool(move.before.is_compressed))
                if md5(back) == move.before.digest:
                    return True
        return False

    def _is_the_source_encoded(self, work: WorkMove, stat: Stat, source: str) -> bool:
        """Tell whether what is there is what the source gives, where only that tells."""
        move = work.move
        address = self.desired.places[source].address
        key = address.keys(move.before.content_url, move.document)[0]
        content = self.stores[source].read([key])[key]
        if not isinstance(content, Content):
            return False
        compressed = move.after.compressed
        if compressed is None:
            backend = self.desired.places[move.dest].backend
            compressed = len(content.data) > backend.compression.min_size
        try:
            wanted = recode(content.data, is_compressed=bool(move.before.is_compressed), compressed=compressed)
        except DocumentError:
            return False
        return self._holds(work, stat, md5(wanted))

    def _holds(self, work: WorkMove, stat: Stat, digest: str) -> bool:
        """Tell whether the copy has this MD5; where the store's word differs (its ETag is none) by reading it."""
        if stat.md5 == digest:
            return True
        dest = self.stores[work.move.dest]
        key = dest.address.keys(work.move.after.content_url, work.move.document)[0]
        content = dest.read([key])[key]
        return isinstance(content, Content) and content.md5 == digest

    def _report(self, dropped: _Dropped) -> None:
        for works, names, why in (
            (dropped.left, self.left, "content_changed"),
            (dropped.last, self.last, "source_not_intact"),
        ):
            for work in works:
                move = work.move
                names.append("/".join(move.document))
                fields = {"user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
                log.warning("copy kept", phase="drop", reason=why, **fields)
        done = [*dropped.gone, *dropped.left, *dropped.last]
        fates = ((dropped.gone, "dropped"), (dropped.left, "kept"), (dropped.last, "kept"))
        tallies = tallied((w.move.dest, fate, None, w.move.before.size) for works, fate in fates for w in works)
        log.info("batch dropped", phase="drop copies", documents=len(done), tallies=tallies)
        self.control.progress.advance(len(done), sum(w.move.before.size or 0 for w in done))
