"""What an open file holds, read, digested and written by its descriptor.

A run does this several times a document. A file object of ``io`` looks at the file once more, asks for its position,
and takes a buffer of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from reconcile.payload import CHUNK_BYTES, SPOOL_BYTES, Data, chunks_of, gathered, md5


def read_all(descriptor: int, size: int) -> Data:
    """Return what a file holds; ``size`` is its size in bytes by its status."""
    whole = _at_once(descriptor, size) if size <= SPOOL_BYTES else None
    return gathered(_chunks(descriptor)) if whole is None else whole


def md5_of(descriptor: int, size: int) -> str:
    """Return the hex MD5 of what a file holds; ``size`` is its size in bytes by its status."""
    whole = _at_once(descriptor, size) if size <= CHUNK_BYTES else None
    if whole is not None:
        return md5(whole)
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(descriptor):
        digest.update(chunk)
    return digest.hexdigest()


def write_all(descriptor: int, data: Data) -> None:
    """Write all the bytes."""
    for chunk in chunks_of(data):
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _at_once(descriptor: int, size: int) -> bytes | None:
    """Return what a file holds, if that is as much as its status said; else the file is at its beginning again."""
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    os.lseek(descriptor, 0, os.SEEK_SET)
    return None


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, CHUNK_BYTES):
        yield chunk
