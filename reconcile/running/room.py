"""Room at the destination: which content that is there already may give way. None that a catalog row refers to (R3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from attrs import field, frozen

from reconcile.catalog.tables import archive_metadata
from reconcile.running.copies import Copy
from reconcile.running.references import referred_by_other_names, staged_by_others
from reconcile.running.run import Run
from reconcile.running.worktables import WRITTEN, moves
from reconcile.stores import Address, Known, Location, Stat, Store
from reconcile.stores.addresses import Key


@frozen
class Room:
    """Decides for one run. ``protected`` are locations that other names or other runs lay claim to."""

    run: Run
    others: Sequence[str]
    overwrite: bool
    protected: frozenset[Location] = field(repr=False)

    @classmethod
    def around(cls, run: Run, others: Sequence[str], addresses: Iterable[Address]) -> Room:
        """Return the room of a run; ``others`` are the ids of other unfinished runs."""
        overwrite = run.record.header.policy.overwrite
        claimed = referred_by_other_names(run, addresses) | staged_by_others(run) if overwrite else set()
        return cls(run, others, overwrite, frozenset(claimed))

    def replaceable(self, copies: Sequence[Copy], present: Mapping[Key, Stat]) -> dict[Key, str]:
        """Return keys and versions of content that may give way.

        It is a source that the undone run had kept (undo with changes), the copy that another run, which never
        switched, made of an older version of the document, or whatever is there, if the plan says ``overwrite``.
        """
        occupied = [copy for copy in copies if copy.dest_key in present]
        found = {copy.dest_key: copy.work.replaces for copy in occupied if copy.work.replaces is not None}
        if not occupied or not (found or self.others or self.overwrite):
            return {}
        versions = self._versions_of_others(occupied)
        for copy in occupied:
            version = versions.get((copy.work.dest_store, copy.work.dest_key))
            if version is None and self.overwrite and not self._is_protected(copy):
                version = present[copy.dest_key].version
            if version is not None:
                found.setdefault(copy.dest_key, version)
        referred = self._referred([copy.work.move.after.content_url for copy in occupied])
        return {
            copy.dest_key: found[copy.dest_key]
            for copy in occupied
            if copy.dest_key in found and copy.work.move.after.content_url not in referred
        }

    def _versions_of_others(self, occupied: Sequence[Copy]) -> dict[tuple[str, str], str]:
        if not self.others:
            return {}
        theirs = sa.select(moves.c.dest_store, moves.c.dest_key, moves.c.copy_version).where(
            moves.c.run_id.in_(self.others),
            moves.c.dest_key.in_([copy.work.dest_key for copy in occupied]),
            moves.c.origin == WRITTEN,
            moves.c.copy_version.is_not(None),
        )
        with self.run.catalog.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(theirs)}

    def _is_protected(self, copy: Copy) -> bool:
        return Location(copy.work.dest_store, copy.dest_key) in self.protected

    def _referred(self, urls: Sequence[str]) -> set[str]:
        columns = archive_metadata.c
        query = sa.select(columns.content_url).where(columns.content_url.in_(urls))
        with self.run.catalog.read() as connection:
            return set(connection.execute(query).scalars())


def make_room(dest: Store, copies: list[Copy], present: dict[Key, Stat], replaceable: dict[Key, str]) -> None:
    """Delete what may be replaced, by key and version: content that a run of ours left and nobody refers to."""
    old = [
        Known(copy.dest_key, replaceable[copy.dest_key])
        for copy in copies
        if copy.dest_key in replaceable
        and (stat := present.get(copy.dest_key)) is not None
        and stat.version == replaceable[copy.dest_key]
        and stat.md5 != copy.expected
    ]
    for key, error in (dest.delete(old) if old else {}).items():
        if error is None:
            del present[key]
