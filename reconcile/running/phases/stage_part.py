"""Stage a part: what one worker does with some moves of a run, from their rows to their record.

A part goes through one thread from first to last: is the row as planned; is the destination empty; record
the intent to write; read and verify the source; encode; write and confirm; record. Reads, writes and records
are a batch each. A document that fails is recorded with its reason and hinders no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import sqlalchemy as sa
from attrs import define, evolve, field

from reconcile.catalog.services import GRACE_SECONDS
from reconcile.catalog.tables import archive_metadata
from reconcile.errors import DocumentError
from reconcile.logs import get_logger
from reconcile.payload import LARGEST, md5, recode
from reconcile.running.phases.context import Phase
from reconcile.running.phases.copy_outcome import (
    Copy,
    CopyOutcome,
    Encoded,
    Known,
    already_restored,
    changed,
    check_reproduced,
    encoded,
    found_there,
)
from reconcile.running.phases.overwrite import Room, make_room
from reconcile.running.phases.shortcuts import Ways
from reconcile.running.phases.staged_row import staged_row
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.record.parts import Fate, Part, PartResult
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.tables import as_before, moves, same_row
from reconcile.running.record.work_moves import WorkMove, of_batch
from reconcile.stores import Content, Stat, Store, Transferred
from reconcile.stores.addresses import Key

_BY_SERVICES_TOO = ("source_missing", "wrong_digest")  # damage, or a service at work

log = get_logger()


@define
class PartStager(Phase):
    """Stages parts of one run, on as many threads at once as call it. ``largest`` is a document's bytes.

    ``may_overwrite`` raises where a place has changed.
    """

    largest: int = LARGEST
    may_overwrite: Callable[[str], bool] = lambda _place: True
    _others: list[str] = field(init=False)
    _room: Room = field(init=False)
    _ways: Ways = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Learn what holds for the whole run."""
        self._others = self.run.unfinished_others()
        self._room = Room.around(self.run, self._others, self.stores)
        self._ways = Ways.of(self.run, self.desired, self.stores)

    def stage(self, part: Part) -> PartResult:
        """Stage those of the part's moves that are still planned, and record each outcome."""
        begun = time.monotonic()
        batch = self.run.between(MoveState.PLANNED, part.first, part.last)
        outcomes = self._stage_batch(batch) if batch else []
        debug = log.bind(phase="stage").debug
        for outcome in outcomes:
            if outcome.state == MoveState.STAGED:
                move = outcome.copy.work.move
                fields = {"user": move.userId, "bucket": move.bucket, "archiveId": move.archiveId}
                debug("document staged", origin=outcome.origin, to=move.after.content_url, **fields)
        failed = [outcome.copy.work.seq for outcome in outcomes if outcome.state != MoveState.STAGED]
        grown = sum(max(0, (o.stat.size or 0) - (o.copy.work.move.before.size or 0)) for o in outcomes if o.stat)
        return PartResult(_fates(outcomes), failed, grown, round(time.monotonic() - begun, 4))

    def _stage_batch(self, batch: Sequence[WorkMove]) -> list[CopyOutcome]:
        unchanged = self._unchanged(batch)
        outcomes = []
        groups: dict[tuple[str, str], list[Copy]] = {}
        for work in batch:
            copy = self._copy(work)
            if work.seq in unchanged:
                groups.setdefault((work.move.source, work.move.dest), []).append(copy)
            else:
                outcomes.append(changed(copy, work.origin))
        for (source, dest), copies in groups.items():
            outcomes += self._stage_group(source, dest, copies)
        outcomes = self._rechecked(batch, outcomes)
        self._record(outcomes)
        return outcomes

    def _copy(self, work: WorkMove) -> Copy:
        move, places = work.move, self.desired.places
        source = places[move.source].address.keys(move.before.content_url, move.document)
        dest = places[move.dest].address.keys(move.after.content_url, move.document)
        return Copy(work, source[0], dest[0])

    def _unchanged(self, batch: Sequence[WorkMove]) -> set[int]:
        """Return the seqs whose catalog rows are still as the plan saw them."""
        query = (
            sa.select(moves.c.seq)
            .join(archive_metadata, same_row(archive_metadata))
            .where(
                moves.c.run_id == self.run.run_id,
                of_batch(batch),
                as_before(archive_metadata),
            )
        )
        with self.run.catalog.read(limited=False) as connection:
            return set(connection.execute(query).scalars())

    def _rechecked(self, batch: Sequence[WorkMove], outcomes: list[CopyOutcome]) -> list[CopyOutcome]:
        """Tell what services wrote or removed while it was read from what is damaged: by its row, which changes too."""
        if not any(outcome.error and outcome.error.reason in _BY_SERVICES_TOO for outcome in outcomes):
            return outcomes
        time.sleep(GRACE_SECONDS)
        unchanged = self._unchanged(batch)
        return [
            o if o.state != MoveState.FAILED or o.copy.work.seq in unchanged else changed(o.copy, o.origin)
            for o in outcomes
        ]

    def _stage_group(self, source_name: str, dest_name: str, copies: list[Copy]) -> list[CopyOutcome]:
        """Copy what goes from one store to one other. Several rows of one destination are one copy."""
        source, dest = self.stores[source_name], self.stores[dest_name]
        source.check_place()
        dest.check_place()
        dest.remove_temporaries([copy.dest_key for copy in copies if copy.work.origin == Origin.INTENDED])
        present = dest.glance(list({copy.dest_key for copy in copies}))
        self._record_intent([c for c in copies if c.dest_key not in present and c.work.origin != Origin.INTENDED])
        short = self._ways.take(source_name, dest_name, [copy for copy in copies if copy.dest_key not in present])
        short |= already_restored(copies, present)
        outcomes = self._through_this_client(source, dest, [c for c in copies if c.work.seq not in short], present)
        missed = [o.copy for o in outcomes if o.is_occupied and o.copy.dest_key not in present]
        if missed:  # the glance did not show what is in the way, a look does
            seen = dest.look([copy.dest_key for copy in missed], digest=True)
            missed = [copy for copy in missed if copy.dest_key in seen]
            judged = {o.copy.work.seq: o for o in self._through_this_client(source, dest, missed, seen)}
            outcomes = [judged.get(outcome.copy.work.seq, outcome) for outcome in outcomes]
            present |= seen
        outcomes += short.values()
        adopted = {o.copy.dest_key for o in outcomes if o.state == MoveState.STAGED and o.copy.dest_key in present}
        if adopted:  # whoever wrote it may have been killed before it was durable
            dest.make_durable(sorted(adopted, key=str))
        return outcomes

    @carries_out(Step.COPY)
    def _through_this_client(
        self, source: Store, dest: Store, copies: list[Copy], present: dict[Key, Stat]
    ) -> list[CopyOutcome]:
        """Read, verify, encode and write what no shortcut took."""
        if not copies:
            return []
        read = source.read(list({copy.source_key for copy in copies}))
        outcomes, ready = list[CopyOutcome](), list[Encoded]()
        for copy in copies:
            try:
                filled = self._encoded(copy, read[copy.source_key], source)
                if filled.dest_key not in present:
                    check_reproduced(filled)
                ready.append(filled)
            except DocumentError as error:
                origin = copy.work.origin or (None if copy.dest_key in present else Origin.INTENDED)
                failed = CopyOutcome(copy, MoveState.FAILED, origin, error=error)
                is_gone = error.reason == "source_missing" and copy.dest_key in present
                outcomes.append(self._only_the_copy(copy, present, dest) or failed if is_gone else failed)
        found = {c.work.seq: self._found(c, present, source, dest) for c in ready if c.dest_key in present}
        in_the_way = [
            copy for copy in ready if copy.work.seq in found and found[copy.work.seq].state == MoveState.FAILED
        ]
        replaceable = self._room.replaceable(in_the_way, present)
        # also where there is none: who was superseded while it read, which may take minutes, does not begin to write
        self._record_intent([c for c in in_the_way if c.dest_key in replaceable and c.work.origin != Origin.INTENDED])
        if replaceable and not self.may_overwrite(copies[0].work.move.dest):
            replaceable = {}
        free = make_room(dest, replaceable)
        absent = {copy.dest_key: copy for copy in ready if copy.dest_key not in present or copy.dest_key in free}
        written = dest.write([copy.write for copy in absent.values()]) if absent else {}
        for copy in ready:
            answer = written.get(copy.dest_key)
            if answer is None:
                outcomes.append(found[copy.work.seq])
            elif isinstance(answer, DocumentError):
                theirs = answer.reason == "destination_occupied"
                outcomes.append(
                    CopyOutcome(copy, MoveState.FAILED, copy.work.origin if theirs else Origin.INTENDED, error=answer)
                )
            elif answer.md5 != copy.expected:  # another row's content went there in this very batch
                taken = DocumentError("destination_occupied", "another catalog row refers to it")
                outcomes.append(CopyOutcome(copy, MoveState.FAILED, copy.work.origin, error=taken))
            else:  # a glance may have missed what is there; found by a resumed run it is what that run wrote
                adopted = answer.found and copy.work.origin != Origin.INTENDED and copy.dest_key not in free
                outcomes.append(
                    CopyOutcome(copy, MoveState.STAGED, Origin.ADOPTED if adopted else Origin.WRITTEN, answer)
                )
        return outcomes

    def _only_the_copy(self, copy: Copy, present: Mapping[Key, Stat], dest: Store) -> CopyOutcome | None:
        """Return the copy as staged where its source is gone, if it gives the document by the catalog's digest.

        So it is where the database was restored, and is older than its stores: the run had got further than it says.
        """
        content = dest.read([copy.dest_key])[copy.dest_key]
        if not isinstance(content, Content) or self.run.record.undo_of is not None:
            return None
        before = copy.work.move.before
        for compressed in (True, False):
            with suppress(DocumentError):
                back = recode(content.data, is_compressed=compressed, compressed=bool(before.is_compressed))
                if before.digest is not None and md5(back) == before.digest:
                    stat = evolve(present[copy.dest_key], md5=content.md5, size=len(content.data))
                    known = Transferred(stat, before.digest, None)
                    origin = Origin.WRITTEN if copy.work.origin in (Origin.INTENDED, Origin.WRITTEN) else Origin.ADOPTED
                    found = Known(copy.work, copy.source_key, copy.dest_key, known, compressed)
                    return CopyOutcome(found, MoveState.STAGED, origin, stat)
        return None

    def _found(self, copy: Encoded, present: Mapping[Key, Stat], source: Store, dest: Store) -> CopyOutcome:
        """Decide about what is at the destination. A hard link of a source that stays is no copy of it."""
        found = found_there(copy, present[copy.dest_key], dest)
        if found.state != MoveState.STAGED or not self._ways.stays(copy):
            return found
        if not dest.shares_bytes(copy.dest_key, source, copy.source_key):
            return found
        why = "it is a hard link of the source, which must be kept; undo the run that made it, or keep no sources"
        return CopyOutcome(copy, MoveState.FAILED, copy.work.origin, error=DocumentError("destination_occupied", why))

    def _encoded(self, copy: Copy, content: Content | DocumentError, source: Store) -> Encoded:
        """Verify and encode; what seems damaged is read once more, since the damage may be the network's."""
        try:
            return encoded(copy, content, self.desired, self.largest)
        except DocumentError as error:
            if error.reason not in ("wrong_digest", "undecodable"):
                raise
        return encoded(copy, source.read([copy.source_key])[copy.source_key], self.desired, self.largest)

    @carries_out(Step.INTEND)
    def _record_intent(self, copies: list[Copy]) -> None:
        """Write down where we are about to write: what turns up there afterwards is ours (R3, undo)."""
        with self.run.writing() as connection:
            self.run.update_moves(connection, [{"seq": c.work.seq, "origin": Origin.INTENDED} for c in copies])

    @carries_out(Step.RECORD)
    def _record(self, outcomes: list[CopyOutcome]) -> None:
        with self.run.writing() as connection:
            ours = [o.copy.work for o in outcomes if o.state == MoveState.STAGED]  # also where old content gave way
            taken = self.run.take_over(connection, self._others, ours) if self._others else set()
            is_undo = self.run.record.undo_of is not None
            staged = [
                staged_row(outcome, is_undo=is_undo, taken=outcome.copy.work.seq in taken)
                for outcome in outcomes
                if outcome.state == MoveState.STAGED
            ]
            unpinned = [row for row in staged if "after_digest" in row]
            self.run.update_moves(connection, unpinned)
            self.run.update_moves(connection, [row for row in staged if "after_digest" not in row])
            self.run.update_moves(
                connection,
                [
                    {
                        "seq": o.copy.work.seq,
                        "state": o.state,
                        "origin": o.origin,
                        "reason": o.error.reason if o.error else None,
                        "detail": o.error.detail if o.error else None,
                    }
                    for o in outcomes
                    if o.state != MoveState.STAGED
                ],
            )


def _fates(outcomes: Iterable[CopyOutcome]) -> list[Fate]:
    """Count what came to the same end; the first of them gives the detail."""
    alike: dict[tuple[str, str, MoveState, str | None, bool], list[CopyOutcome]] = {}
    for outcome in outcomes:
        move, error = outcome.copy.work.move, outcome.error
        reason, was_read = (error.reason, isinstance(outcome.copy, Encoded | Known)) if error else (None, False)
        alike.setdefault((move.source, move.dest, outcome.state, reason, was_read), []).append(outcome)
    return [
        Fate(
            *kind,
            detail=those[0].error.detail if those[0].error else "",
            documents=len(those),
            size=sum(outcome.copy.work.move.before.size or 0 for outcome in those),
        )
        for kind, those in alike.items()
    ]
