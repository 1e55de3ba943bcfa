"""Whether content is what the catalog says, what its copy must hold, and whether that is there already.

The probe of a plan and the staging of a run ask the same questions, and get the same answers here.
"""

from __future__ import annotations

from attrs import evolve

from reconcile.config import Backend
from reconcile.errors import DocumentError
from reconcile.payload import LARGEST, Data, decompress, md5, recode
from reconcile.planning.model import Before, Move
from reconcile.stores import Content, Stat, Store
from reconcile.stores.addresses import Key


def check_content(before: Before, content: Content) -> None:
    """Raise `DocumentError` unless what was read is what the catalog row says.

    Without a digest the size must do. A NULL that services read as empty is taken for an empty document only
    where a digest says that it is one.
    """
    if before.digest is not None:
        if content.md5 != before.digest:
            raise DocumentError("wrong_digest", f"the content has MD5 {content.md5}, the catalog has {before.digest}")
    elif content.is_null:
        raise DocumentError(
            "source_missing", "the column is NULL, and the catalog has no digest to prove an empty document"
        )
    elif before.size is not None and len(content.data) != before.size:
        raise DocumentError(
            "wrong_digest", f"the content has {len(content.data):,} bytes, the catalog has {before.size:,}"
        )


def refuse_archived(store: Store, key: Key, stat: Stat) -> None:
    """Raise `DocumentError` for content that is there, and cannot be read before it is restored."""
    said = store.is_archived(key) if stat.may_be_archived else None
    if said is not None:
        raise DocumentError("archived", said)


def agrees(before: Before, stat: Stat) -> bool:
    """Tell whether what a store reports about a key is consistent with the row; False: the content must be read."""
    if stat.unverified:
        return False
    if stat.md5 is not None and before.digest is not None:
        return stat.md5 == before.digest
    return stat.size is None or before.size is None or stat.size == before.size


def encode(move: Move, data: Data, backend: Backend, max_size: int, largest: int = LARGEST) -> tuple[Data, bool]:
    """Return the stored bytes as the destination is to hold them, and whether they are compressed.

    ``max_size`` is what the destination holds, ``largest`` what may come of decompressing, both in bytes.
    Raises `DocumentError` where they cannot be decoded or are too big.
    """
    pinned = move.after.pinned
    compressed = bool(pinned.is_compressed) if pinned else move.after.compressed
    if compressed is None:
        compressed = len(data) > backend.compression.min_size
    encoded = recode(
        data, is_compressed=bool(move.before.is_compressed), compressed=compressed, limit=min(largest, max_size)
    )
    if len(encoded) > max_size:
        raise DocumentError(
            "too_big", f"{len(encoded):,} bytes when encoded for the destination, which holds at most {max_size:,}"
        )
    return encoded, compressed


def found_copy(dest: Store, key: Key, stat: Stat, expected: str, copy: Data | None) -> Stat | None:
    """Return what is at the destination if it will do as the copy: it has this MD5, or is ``copy`` by another zlib.

    ``copy`` are the compressed bytes of a document that any zlib may have compressed; None where only the MD5 counts.
    """
    if stat.may_be_archived and dest.is_archived(key):
        return None  # services could not read it there
    if stat.md5 == expected:
        return stat
    there = dest.read([key])[key]  # an ETag need not be an MD5: what is there decides
    if not isinstance(there, Content):
        return None
    found = evolve(stat, size=len(there.data), md5=there.md5, version=there.version)
    if found.md5 == expected or (copy is not None and _same_document(there.data, copy)):
        return found
    return None


def _same_document(stored: Data, copy: Data) -> bool:
    try:
        return md5(decompress(stored)) == md5(decompress(copy))
    except DocumentError:
        return False
