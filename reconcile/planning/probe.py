"""Ask the stores about planned moves, before any downtime is booked: `reconcile plan --probe`.

A source that is missing, or not what the catalog says, becomes a blocker; so does a destination that holds other
content. Nothing is written anywhere. Stores tell by listings and SQL where they can; what those leave open is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, evolve, field

from reconcile.catalog import Catalog
from reconcile.catalog.rows import CatalogRow, rows_of, urls_in_use, urls_of_runs
from reconcile.catalog.services import GRACE_SECONDS
from reconcile.control import PIPELINES, in_batches, in_order
from reconcile.errors import DocumentError, MissingStoreError
from reconcile.payload import md5
from reconcile.planning.content_checks import agrees, check_content, encode, found_copy, refuse_archived
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import ADOPT, OVERWRITE, Before, Blocker, Move
from reconcile.stores import Content, Stat, Store, open_store
from reconcile.stores.addresses import Key

BATCH_MOVES = 250

Found = dict[Key, Stat]


@define
class Prober:
    """Probes the moves of one plan. ``digests``: compare contents, not only presence and size.

    ``unrecorded`` counts documents that are at the destination already although no run on record concerns them,
    ``made`` says which destinations are not there yet, ``composite`` counts sources that are made of other objects.
    """

    catalog: Catalog
    desired: DesiredState
    digests: bool
    overwrite: bool
    unrecorded: int = 0
    made: list[str] = field(factory=list)
    composite: int = 0
    _stores: dict[str, Store | None] = field(factory=dict)

    def probe(self, moves: Iterable[Move]) -> Iterator[Move | Blocker]:
        """Yield the moves in their order, those that cannot be done as blockers. The stores in use are open."""
        for batch, composite in in_order(PIPELINES, in_batches(moves, BATCH_MOVES), self.settled):
            self.composite += composite
            yield from self.counted(batch)

    @property
    def names(self) -> list[str]:
        """The places that are open."""
        return list(self._stores)

    def place(self, name: str) -> dict[str, Any] | None:
        """Return what an open place is by `Store.place`; None for one that is not there yet."""
        store = self._stores[name]
        return None if store is None else store.place()

    def settled(self, moves: list[Move]) -> tuple[list[Move | Blocker], int]:
        """Return what is decided about a batch, and how many of its sources are made of other objects."""
        judged, composite = self.judged(moves)
        return self._as_planned(moves, judged), composite

    def counted(self, batch: list[Move | Blocker]) -> list[Move | Blocker]:
        """Count what is at its destination already, and return the batch."""
        adopted = [d.after.content_url for d in batch if isinstance(d, Move) and d.action == ADOPT]
        self.unrecorded += len(adopted) - len(urls_of_runs(self.catalog, adopted)) if adopted else 0
        return batch

    def open(self, name: str) -> None:
        """Open a place; a destination that apply is going to make holds nothing yet.

        Raises `BackendError` for one that is not usable as a whole.
        """
        store = open_store(self.desired.places[name].backend, self.catalog, "probe")
        self._stores[name] = store
        try:
            store.prepare(create=False)
        except MissingStoreError as error:
            if not (name.startswith("dest.") and error.made_by_apply):
                raise
            self._stores[name] = None
            self.made.append(f"{error.message}: apply creates it, as the config says.")

    def judged(self, moves: list[Move]) -> tuple[list[Move | Blocker], int]:
        """Return what the stores say of a batch as it was planned, and how many sources are made of other objects."""
        at_source = self._look(moves, "source", digest=self.digests)
        at_dest = self._look(moves, "dest", digest=True)
        composite = sum(stat.is_composite for found in at_source.values() for stat in found.values())
        taken = [move.after.content_url for move in moves if self._place(move, "dest")[1] in at_dest[move.dest]]
        kept = urls_in_use(self.catalog, taken) if taken else set()
        return [self._judge(move, at_source[move.source], at_dest[move.dest], kept) for move in moves], composite

    def _as_planned(self, moves: list[Move], judged: list[Move | Blocker]) -> list[Move | Blocker]:
        """Leave moves whose rows changed since the catalog was read as they were: what services do is no damage."""
        if not any(isinstance(decision, Blocker) for decision in judged):
            return judged
        time.sleep(GRACE_SECONDS)
        blocked = [m for m, decision in zip(moves, judged, strict=True) if isinstance(decision, Blocker)]
        now = rows_of(self.catalog, [(*move.document, move.documentName) for move in blocked])
        return [
            decision if isinstance(decision, Move) or _is_as_read(move, now) else move
            for move, decision in zip(moves, judged, strict=True)
        ]

    def _look(self, moves: list[Move], side: str, *, digest: bool) -> dict[str, Found]:
        keys: dict[str, set[Key]] = {}
        for move in moves:
            name, key = self._place(move, side)
            keys.setdefault(name, set()).add(key)
        return {
            name: self._asked(store, list(wanted), side, digest=digest) if (store := self._stores[name]) else {}
            for name, wanted in keys.items()
        }

    @staticmethod
    def _asked(store: Store, keys: list[Key], side: str, *, digest: bool) -> Found:
        """Ask for sources by name if need be; of destinations a listing that shows them whole says enough."""
        return store.look(keys, digest=digest) if side == "source" else store.glance(keys)

    def _place(self, move: Move, side: str) -> tuple[str, Key]:
        name, url = (move.source, move.before.content_url) if side == "source" else (move.dest, move.after.content_url)
        return name, self.desired.places[name].address.keys(url, move.document)[0]

    def _judge(self, move: Move, at_source: Found, at_dest: Found, kept: set[str]) -> Move | Blocker:
        """Decide about one move; ``kept`` are URLs of destinations that rows refer to."""
        try:
            name, key = self._place(move, "source")
            stat = at_source.get(key)
            store = self._stores[name]
            if stat is not None and store is not None:
                refuse_archived(store, key, stat)
            if stat is None or not self._proves(move, stat):
                self._read_source(move, name, key)
            _name, dest_key = self._place(move, "dest")
            occupied = at_dest.get(dest_key)
            return move if occupied is None else evolve(move, action=self._action(move, dest_key, occupied, kept))
        except DocumentError as error:
            before = move.before
            return Blocker(
                *move.document, move.documentName, before.content_url, before.size, error.reason, error.detail
            )

    def _proves(self, move: Move, stat: Stat) -> bool:
        """Tell whether the look at the source is proof enough: with digests an MD5, else anything that agrees."""
        unproven = self.digests and stat.md5 is None
        return agrees(move.before, stat) and not unproven

    def _read_source(self, move: Move, name: str, key: Key) -> Content:
        """Read a source and check it. Raises `DocumentError`."""
        store = self._stores[name]
        if store is None:
            raise DocumentError("source_missing", f"{name} does not exist yet")
        content = store.read([key])[key]
        if isinstance(content, DocumentError):
            raise content
        check_content(move.before, content)
        return content

    def _action(self, move: Move, key: Key, stat: Stat, kept: set[str]) -> str:
        """Return what is to be done about content that is at the destination already."""
        before, dest = move.before, self._stores[move.dest]
        assert dest is not None  # noqa: S101 - something was found there
        expected = before.digest if move.after.compressed == bool(before.is_compressed) else None
        will_do, passing = expected is not None and stat.md5 == expected, None
        if not will_do:
            content = self._read_source(move, *self._place(move, "source"))
            place = self.desired.places[move.dest]
            data, compressed = encode(move, content.data, place.backend, place.address.max_size)
            will_do = found_copy(dest, key, stat, md5(data), data if compressed else None) is not None
        if will_do:
            passing = dest.expiry_of(key)
            if passing is None:
                return ADOPT
        if self.overwrite and stat.version is not None and move.after.content_url not in kept:
            return OVERWRITE
        why = ", and a row refers to it" if move.after.content_url in kept else ""
        what = (
            f"the same content is at {move.after.content_url} already, but {passing}"
            if passing
            else (f"other content is at {move.after.content_url} already")
        )
        raise DocumentError("destination_occupied", f"{what}{why}")


def _is_as_read(move: Move, now: Mapping[tuple[str, str, str, str], CatalogRow]) -> bool:
    row, before = now.get((*move.document, move.documentName)), move.before
    return row is not None and before == Before(
        row.content_url or "", row.is_compressed, row.digest, row.size, row.last_updated
    )
