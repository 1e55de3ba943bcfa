"""Stored bytes and documents: digest and compression, as the services do them.

Source of the rules: the vendor's object-store manager (MD5 of the stored bytes in the catalog; zlib
level 3 where compression is on and the document is larger than ``min_size_kbytes * 1024`` bytes).
"""

from __future__ import annotations

import hashlib
import zlib

from reconcile.errors import DocumentError

ZLIB_LEVEL = 3


def md5(data: bytes) -> str:
    """Return the lower-case hex MD5 of the bytes, as the catalog's ``digest`` has it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def compress(document: bytes) -> bytes:
    """Compress as the services would when writing."""
    return zlib.compress(document, ZLIB_LEVEL)


def decompress(stored: bytes) -> bytes:
    """Decompress as the services do when reading.

    Like theirs, it ignores bytes after the zlib stream. Raises `DocumentError` (``undecodable``) for
    bytes that do not begin with one whole zlib stream.
    """
    decoder = zlib.decompressobj()
    try:
        document = decoder.decompress(stored) + decoder.flush()
    except zlib.error as error:
        raise DocumentError("undecodable", f"not zlib data though is_compressed is true: {error}") from None
    if not decoder.eof:
        raise DocumentError("undecodable", "the zlib data ends too early")
    return document


def recode(stored: bytes, *, is_compressed: bool, compressed: bool) -> bytes:
    """Return the stored bytes as the other side would store them; unchanged if both agree."""
    if is_compressed == compressed:
        return stored
    return compress(stored) if compressed else decompress(stored)
