"""One copy on its way: what was read, checked and encoded, and what to do about content that is there already."""

from __future__ import annotations

from attrs import evolve, frozen

from reconcile.errors import DocumentError
from reconcile.payload import Data, decompress, md5, recode
from reconcile.planning.desired import DesiredState
from reconcile.running.worktables import ADOPTED, FAILED, INTENDED, STAGED, WRITTEN, WorkMove
from reconcile.stores import Content, Known, Stat, Store, Write
from reconcile.stores.addresses import Key


@frozen
class Copy:
    """One move with its keys on both sides, and what was read and encoded for it."""

    work: WorkMove
    source_key: Key
    dest_key: Key
    content: Content | None = None
    write: Write | None = None
    compressed: bool = False

    @property
    def expected(self) -> str:
        """MD5 of the bytes that the destination must hold."""
        if self.work.restore is not None:
            return self.work.restore.md5
        assert self.write is not None  # noqa: S101 - encoded before anything is expected
        return self.write.md5


@frozen
class Outcome:
    """What came of one move. ``stat`` is the confirmed copy's."""

    copy: Copy
    state: str
    origin: str | None = None
    stat: Stat | None = None
    error: DocumentError | None = None


def encoded(copy: Copy, content: Content | DocumentError, desired: DesiredState) -> Copy:
    """Verify what was read against the catalog and encode it for the destination."""
    if isinstance(content, DocumentError):
        raise content
    move, data = copy.work.move, content.data
    digest = md5(data)
    if move.before.digest is not None:
        if digest != move.before.digest:
            raise DocumentError("wrong_digest", f"the content has MD5 {digest}, the catalog says {move.before.digest}")
    elif move.before.size is not None and len(data) != move.before.size:
        raise DocumentError("wrong_digest", f"the content has {len(data)} bytes, the catalog says {move.before.size}")
    pinned = move.after.pinned
    compressed = bool(pinned.is_compressed) if pinned else move.after.compressed
    if compressed is None:
        compressed = len(data) > desired.places[move.dest].backend.compression.min_size
    was_compressed = bool(move.before.is_compressed)
    encoded = recode(data, is_compressed=was_compressed, compressed=compressed)
    limit = desired.places[move.dest].address.max_size
    if len(encoded) > limit:
        raise DocumentError("too_big", f"{len(encoded)} bytes once encoded for the destination, which holds {limit}")
    attributes = copy.work.restore.attributes if copy.work.restore else {}
    write = Write(copy.dest_key, encoded, digest if encoded is data else md5(encoded), attributes)
    return evolve(copy, content=content, write=write, compressed=compressed)


def check_reproduced(copy: Copy) -> None:
    """Refuse to restore anything but the original's very bytes."""
    if copy.write is not None and copy.write.md5 != copy.expected:
        raise DocumentError(
            "not_reproducible", f"the original had MD5 {copy.expected}, encoding gives {copy.write.md5}"
        )


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


def found_there(copy: Copy, stat: Stat, dest: Store) -> Outcome:
    """Decide about content that was at the destination before us: adopt it, or leave it alone and say so."""
    origin = WRITTEN if copy.work.origin in (INTENDED, WRITTEN) else ADOPTED
    if stat.md5 == copy.expected:
        return Outcome(copy, STAGED, origin, stat)
    there = dest.read([copy.dest_key])[copy.dest_key]  # an ETag need not be an MD5: what is there decides
    if isinstance(there, Content):
        found = Stat(len(there.data), md5(there.data), there.version)
        if found.md5 == copy.expected:
            return Outcome(copy, STAGED, origin, found)
        if copy.compressed and copy.work.restore is None and _same_document(there.data, copy):
            return Outcome(copy, STAGED, origin, found)
    error = DocumentError("destination_occupied", f"other content is at {copy.work.move.after.content_url}")
    return Outcome(copy, FAILED, copy.work.origin, error=error)


def _same_document(stored: Data, copy: Copy) -> bool:
    """Tell whether compressed bytes hold the same document, though another zlib made them."""
    assert copy.write is not None  # noqa: S101
    try:
        return md5(decompress(stored)) == md5(decompress(copy.write.data))
    except DocumentError:
        return False
