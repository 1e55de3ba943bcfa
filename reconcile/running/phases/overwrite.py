"""Overwrite: which content at a destination may be replaced; never content that a row refers to (R3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from attrs import field, frozen

from reconcile.catalog.rows import urls_in_use
from reconcile.planning.model import OVERWRITE
from reconcile.running.phases.aliases import SamePlace
from reconcile.running.phases.copy_outcome import Copy
from reconcile.running.phases.references import referred_by_other_names, staged_by_others
from reconcile.running.record.run import Run
from reconcile.running.record.states import Origin
from reconcile.running.record.tables import moves
from reconcile.stores import Address, Known, Location, Stat, Store
from reconcile.stores.addresses import Key


@frozen
class Room:
    """Decides for one run. Rows lead to ``referred`` locations by other names, other runs have ``staged`` some."""

    run: Run
    others: Sequence[str]
    overwrite: bool
    same_place: SamePlace
    referred: frozenset[Location] = field(repr=False)
    staged: frozenset[Location] = field(repr=False)

    @classmethod
    def around(cls, run: Run, others: Sequence[str], stores: Mapping[str, Store]) -> Room:
        """Return the decider of a run; ``others`` are the ids of other unfinished runs."""
        overwrite = run.record.header.policy.overwrite
        addresses: Iterable[Address] = [store.address for store in stores.values()]
        may_replace = overwrite or bool(others) or run.replaces()
        referred = referred_by_other_names(run.catalog, addresses) if may_replace else set()
        staged = staged_by_others(run) if overwrite else set()
        return cls(run, others, overwrite, SamePlace(run.run_id, stores), frozenset(referred), frozenset(staged))

    def replaceable(self, occupied: Sequence[Copy], present: Mapping[Key, Stat]) -> dict[Key, str]:
        """Return keys and versions of content that may be replaced by copies that cannot adopt it.

        It is a source that the undone run had kept (undo with changes), the copy that another run, which never
        switched, made of an older version of the document, or any content, if the plan says ``overwrite``.
        """
        found = {copy.dest_key: copy.work.replaces for copy in occupied if copy.work.replaces is not None}
        if not occupied or not (found or self.others or self.overwrite):
            return {}
        versions = self._versions_of_others(occupied)
        for copy in occupied:
            version = versions.get((copy.work.dest_store, copy.work.dest_key))
            if version is None and self._is_to_be_overwritten(copy):
                version = present[copy.dest_key].version
            if version is not None:
                found.setdefault(copy.dest_key, version)
        referred = urls_in_use(self.run.catalog, [copy.work.move.after.content_url for copy in occupied])
        return {
            copy.dest_key: found[copy.dest_key]
            for copy in occupied
            if copy.dest_key in found
            and found[copy.dest_key] == present[copy.dest_key].version
            and copy.work.move.after.content_url not in referred
            and Location(copy.work.dest_store, copy.dest_key) not in self.referred
            and not self.same_place(copy.work.move.source, copy.work.move.dest)
        }

    def _versions_of_others(self, occupied: Sequence[Copy]) -> dict[tuple[str, str], str]:
        if not self.others:
            return {}
        theirs = sa.select(moves.c.dest_store, moves.c.dest_key, moves.c.copy_version).where(
            moves.c.run_id.in_(self.others),
            moves.c.dest_key.in_([copy.work.dest_key for copy in occupied]),
            moves.c.origin == Origin.WRITTEN,
            moves.c.copy_version.is_not(None),
        )
        with self.run.catalog.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(theirs)}

    def _is_to_be_overwritten(self, copy: Copy) -> bool:
        """Tell whether the plan lets content be replaced here; a probed plan says so of each move."""
        if not self.overwrite or Location(copy.work.dest_store, copy.dest_key) in self.staged:
            return False
        return self.run.record.header.summary.probed is None or copy.work.move.action == OVERWRITE


def make_room(dest: Store, replaceable: Mapping[Key, str]) -> set[Key]:
    """Delete what may be replaced, by key and version; return the keys that are free now."""
    old = [Known(key, version) for key, version in replaceable.items()]
    if not old:
        return set()
    dest.ready_to_delete()
    with dest.fence.pending(dest.address, list(replaceable)):  # else a late request could delete what is written next
        return {key for key, error in dest.delete(old).items() if error is None}
