"""Check a part: whether its copies are still at the destination, as they were confirmed (R3)."""

from __future__ import annotations

from attrs import define, frozen

from reconcile.running.phases.context import Phase
from reconcile.running.phases.counterparts import is_another
from reconcile.running.record.parts import Part
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.work_moves import StagedCopy


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
        batch = self.run.copies(part.first, part.last)
        by_dest: dict[str, list[StagedCopy]] = {}
        for copy in batch:
            by_dest.setdefault(copy.dest, []).append(copy)
        missing = [copy for dest, copies in by_dest.items() for copy in self._missing(dest, copies)]
        if missing:
            self._plan_again(missing)
        return Looked(len(batch), sum(copy.before_size or 0 for copy in batch), len(missing))

    def _missing(self, dest: str, copies: list[StagedCopy]) -> list[StagedCopy]:
        store, address = self.stores[dest], self.desired.places[dest].address
        keys = {copy.seq: address.keys(copy.url, copy.document)[0] for copy in copies}
        store.check_place()
        found = store.look(list(set(keys.values())))
        store.check_place()
        missing = []
        for copy in copies:
            stat = found.get(keys[copy.seq])
            if stat is None or is_another(stat, copy.version, copy.mark, copy.size):
                missing.append(copy)
        return missing

    def _plan_again(self, missing: list[StagedCopy]) -> None:
        rows = [
            {
                "seq": copy.seq,
                "state": MoveState.PLANNED,
                "origin": Origin.INTENDED if copy.origin == Origin.WRITTEN else copy.origin,
            }
            for copy in missing
        ]
        with self.run.writing() as connection:
            self.run.update_moves(connection, rows)
