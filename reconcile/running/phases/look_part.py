"""Check a part: whether its copies are still at the destination, as they were confirmed (R3)."""

from __future__ import annotations

from attrs import define, frozen

from reconcile.running.phases.context import Phase
from reconcile.running.phases.counterparts import is_another
from reconcile.running.record.parts import Part
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.work_moves import WorkMove


@frozen
class Looked:
    """The result for a part: so many documents and bytes, and how many copies are gone or altered."""

    documents: int
    size: int
    gone: int


@define
class PartLooker(Phase):
    """Checks parts of one run, on as many threads at once as call it."""

    def look(self, part: Part) -> Looked:
        """Check the copies of the part's staged moves; those that are gone will be staged again."""
        batch = self.run.between(MoveState.STAGED, part.first, part.last)
        by_dest: dict[str, list[WorkMove]] = {}
        for work in batch:
            by_dest.setdefault(work.move.dest, []).append(work)
        missing = [work for dest, works in by_dest.items() for work in self._missing(dest, works)]
        if missing:
            self._plan_again(missing)
        return Looked(len(batch), sum(work.move.before.size or 0 for work in batch), len(missing))

    def _missing(self, dest: str, works: list[WorkMove]) -> list[WorkMove]:
        store, address = self.stores[dest], self.desired.places[dest].address
        keys = {work.seq: address.keys(work.move.after.content_url, work.move.document)[0] for work in works}
        store.check_place()
        found = store.look(list(set(keys.values())))
        store.check_place()
        missing = []
        for work in works:
            stat = found.get(keys[work.seq])
            if stat is None or is_another(stat, work.copy_version, work.copy_mark, work.after_size):
                missing.append(work)
        return missing

    def _plan_again(self, missing: list[WorkMove]) -> None:
        rows = [
            {
                "seq": work.seq,
                "state": MoveState.PLANNED,
                "origin": Origin.INTENDED if work.origin == Origin.WRITTEN else work.origin,
            }
            for work in missing
        ]
        with self.run.writing() as connection:
            self.run.update_moves(connection, rows)
