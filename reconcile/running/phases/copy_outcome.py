"""One copy in progress: what was read, checked and encoded, and what to do about content that is already there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from reconcile.errors import DocumentError
from reconcile.payload import LARGEST, md5
from reconcile.planning.content_checks import check_content, encode, found_copy
from reconcile.planning.decide import DesiredState
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.work_moves import WorkMove
from reconcile.stores import Content, Shortcut, Stat, Store, Transfer, Transferred, Write
from reconcile.stores.addresses import Key

ROW_CHANGED = "row_changed"


@frozen
class Copy:
    """One move with its keys on both sides; of itself nothing has been read for it yet."""

    work: WorkMove
    source_key: Key
    dest_key: Key


@frozen
class Encoded(Copy):
    """A copy whose source was read and verified, and what is to be written for it."""

    content: Content
    write: Write
    compressed: bool

    @property
    def expected(self) -> str:
        """MD5 of the bytes that the destination must hold."""
        return self.write.md5 if self.work.restore is None else self.work.restore.md5


@frozen
class Known(Copy):
    """A copy that was made or found without its bytes passing through this client."""

    content: Transferred
    compressed: bool = False


@frozen
class CopyOutcome:
    """The outcome of one move. ``stat`` is the confirmed copy's."""

    copy: Copy
    state: MoveState
    origin: Origin | None = None
    stat: Stat | None = None
    error: DocumentError | None = None

    @property
    def is_occupied(self) -> bool:
        """Whether the store found other content at the destination."""
        return self.error is not None and self.error.reason == "destination_occupied"


def transfer_of(copy: Copy, way: Shortcut) -> Transfer | None:
    """Return what a shortcut could copy: nothing, unless the bytes stay as the catalog has them."""
    before, after, restore = copy.work.move.before, copy.work.move.after, copy.work.restore
    compressed = bool(after.pinned.is_compressed) if after.pinned else after.compressed
    same_bytes = compressed == bool(before.is_compressed)
    is_known = before.digest is not None and before.size is not None and way.at_least <= before.size <= way.at_most
    if not (same_bytes and is_known) or (restore is not None and restore.md5 != before.digest):
        return None
    return Transfer(copy.source_key, copy.dest_key, before.digest or "", restore.attributes if restore else {})


def transferred(copy: Copy, done: Transferred | DocumentError) -> CopyOutcome:
    """Return the outcome of a copy that did not go through this client."""
    if isinstance(done, DocumentError):
        return CopyOutcome(copy, MoveState.FAILED, Origin.INTENDED, error=done)
    compressed = bool(copy.work.move.before.is_compressed)
    return CopyOutcome(
        Known(copy.work, copy.source_key, copy.dest_key, done, compressed),
        MoveState.STAGED,
        Origin.WRITTEN,
        done.stat,
    )


def encoded(copy: Copy, content: Content | DocumentError, desired: DesiredState, largest: int = LARGEST) -> Encoded:
    """Verify what was read against the catalog and encode it for the destination; ``largest`` is in bytes."""
    if isinstance(content, DocumentError):
        raise content
    move, data = copy.work.move, content.data
    check_content(move.before, content)
    place = desired.places[move.dest]
    written, compressed = encode(move, data, place.backend, place.address.max_size, largest)
    attributes = copy.work.restore.attributes if copy.work.restore else {}
    write = Write(copy.dest_key, written, content.md5 if written is data else md5(written), attributes)
    return Encoded(copy.work, copy.source_key, copy.dest_key, content, write, compressed)


def check_reproduced(copy: Encoded) -> None:
    """Refuse to restore anything but the exact original bytes."""
    if copy.write.md5 != copy.expected:
        raise DocumentError(
            "not_reproducible", f"the original had MD5 {copy.expected}, but encoding gives {copy.write.md5}"
        )


def found_there(copy: Encoded, stat: Stat, dest: Store) -> CopyOutcome:
    """Decide about content that was at the destination before: adopt it, or leave it and report that."""
    origin = Origin.WRITTEN if copy.work.origin in (Origin.INTENDED, Origin.WRITTEN) else Origin.ADOPTED
    any_zlib = copy.compressed and copy.work.restore is None
    found = found_copy(dest, copy.dest_key, stat, copy.expected, copy.write.data if any_zlib else None)
    is_theirs = origin == Origin.ADOPTED and copy.work.restore is None  # what an undo finds is what was there before
    expiry = dest.expiry_of(copy.dest_key) if found is not None and is_theirs else None
    if found is not None and expiry is None:
        return CopyOutcome(copy, MoveState.STAGED, origin, found)
    what = f"the same content, but {expiry}," if expiry else "other content"
    error = DocumentError("destination_occupied", f"{what} is already at {copy.work.move.after.content_url}")
    return CopyOutcome(copy, MoveState.FAILED, copy.work.origin, error=error)


def already_restored(copies: Sequence[Copy], present: Mapping[Key, Stat]) -> dict[int, CopyOutcome]:
    """Take for staged what an undo would restore and what is there already, byte for byte: the kept source.

    Nothing has to be read for it, and the copy may be gone. What deleting the copy needs to know of it is on record
    from when it was made.
    """
    found = {}
    for copy in copies:
        stat, restore = present.get(copy.dest_key), copy.work.restore
        if stat is not None and restore is not None and stat.md5 == restore.md5 and copy.work.origin is None:
            known = Transferred(stat, copy.work.move.before.digest or "", copy.work.source_version)
            restored = Known(copy.work, copy.source_key, copy.dest_key, known)
            found[copy.work.seq] = CopyOutcome(restored, MoveState.STAGED, Origin.ADOPTED, stat)
    return found


def changed(copy: Copy, origin: Origin | None) -> CopyOutcome:
    """Return the outcome of a move whose catalog row has changed."""
    error = DocumentError(ROW_CHANGED, "the catalog row has changed since the plan")
    return CopyOutcome(copy, MoveState.CHANGED, origin, error=error)
