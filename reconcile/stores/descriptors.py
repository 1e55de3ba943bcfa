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
    """Return what a file holds, from its beginning; ``size`` is its size in bytes by its status."""
    if size <= SPOOL_BYTES:
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        os.lseek(descriptor, 0, os.SEEK_SET)
    return gathered(_chunks(descriptor))


def md5_of(descriptor: int, size: int) -> str:
    """Return the hex MD5 of what a file holds from where it stands; ``size`` is its size in bytes by its status."""
    chunk = os.read(descriptor, min(size + 1, CHUNK_BYTES))
    if len(chunk) == size:
        return md5(chunk)
    digest = hashlib.md5(chunk, usedforsecurity=False)
    for more in _chunks(descriptor):
        digest.update(more)
    return digest.hexdigest()


def write_all(descriptor: int, data: Data) -> None:
    """Write all the bytes."""
    for chunk in chunks_of(data):
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, CHUNK_BYTES):
        yield chunk
