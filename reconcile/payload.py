"""Stored bytes and documents: digest and compression, as the services do them, in memory that does not grow.

Source of the rules: the vendor's object-store manager (MD5 of the stored bytes in the catalog; zlib
level 3 where compression is on and the document is larger than ``min_size_kbytes * 1024`` bytes).
What is larger than `SPOOL_BYTES` goes through a temporary file instead of memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from reconcile.errors import BackendError, DocumentError

ZLIB_LEVEL = 3
CHUNK_BYTES = 1 << 20
SPOOL_BYTES = 16 << 20
LARGEST = 5 << 30  # bytes: no driver holds a larger document


class Spool:
    """Bytes too many for memory: a temporary file without a name (mode 0600), gone with this object.

    It is in the directory of ``TMPDIR``. One thread at a time may read it.
    """

    def __init__(self) -> None:
        with spool_errors("a large document could not be written to a temporary file there"):
            self._file = tempfile.TemporaryFile(prefix="reconcile-")  # noqa: SIM115 - closed with this object
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        with spool_errors("a large document could not be written to a temporary file there"):
            self._file.write(chunk)
        self._digest.update(chunk)
        self._size += len(chunk)

    def __len__(self) -> int:
        return self._size

    @property
    def md5(self) -> str:
        """The lower-case hex MD5 of all bytes."""
        return self._digest.hexdigest()

    def file(self) -> BinaryIO:
        """Return the file, to be read from its beginning."""
        with spool_errors("a large document could not be written to a temporary file there"):
            self._file.seek(0)
        return self._file


@contextmanager
def spool_errors(what: str) -> Iterator[None]:
    """Name the place of the temporary files: an error of it is none of a store's."""
    try:
        yield
    except OSError as error:
        place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - where the library looks
        raise BackendError(
            f"{place}: {what}: {error.strerror or error}",
            hint="free space there, or set TMPDIR to another directory; then run the same command again",
        ) from None


Data = bytes | Spool


def md5(data: Data) -> str:
    """Return the lower-case hex MD5 of the bytes, as the catalog's ``digest`` has it."""
    if isinstance(data, Spool):
        return data.md5
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def chunks_of(data: Data) -> Iterator[bytes]:
    """Yield the bytes in pieces."""
    if isinstance(data, Spool):
        file = data.file()
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    else:
        yield data


def gathered(chunks: Iterable[bytes]) -> Data:
    """Return all the bytes together: in memory while they are few, else in a spool file."""
    held: list[bytes] = []
    size = 0
    spool: Spool | None = None
    for chunk in chunks:
        size += len(chunk)
        if spool is None and size > SPOOL_BYTES:
            spool = Spool()
            for early in held:
                spool.append(early)
            held.clear()
        if spool is None:
            held.append(chunk)
        else:
            spool.append(chunk)
    return b"".join(held) if spool is None else spool


def compress(document: Data) -> Data:
    """Compress as the services would when writing."""
    return gathered(_compressed(document))


def _compressed(document: Data) -> Iterator[bytes]:
    encoder = zlib.compressobj(ZLIB_LEVEL)
    for chunk in chunks_of(document):
        yield encoder.compress(chunk)
    yield encoder.flush()


def decompress(stored: Data, limit: int = LARGEST) -> Data:
    """Decompress as the services do when reading.

    Like theirs, it ignores bytes after the zlib stream. Raises `DocumentError`: ``undecodable`` for bytes that do
    not begin with one whole zlib stream, ``too_big`` as soon as there are more than ``limit`` bytes.
    """
    return gathered(_decompressed(stored, limit))


def _decompressed(stored: Data, limit: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj()
    size = 0
    try:
        for chunk in chunks_of(stored):
            rest = chunk
            while rest and not decoder.eof:
                piece = decoder.decompress(rest, CHUNK_BYTES)
                rest = decoder.unconsumed_tail
                size += len(piece)
                if size > limit:
                    raise DocumentError("too_big", f"it decompresses to more than {limit:,} bytes")
                yield piece
        yield decoder.flush()
    except zlib.error as error:
        raise DocumentError("undecodable", f"not zlib data although is_compressed is true: {error}") from None
    if not decoder.eof:
        raise DocumentError("undecodable", "the zlib data ends too early")


def recode(stored: Data, *, is_compressed: bool, compressed: bool, limit: int = LARGEST) -> Data:
    """Return the stored bytes as the other side would store them; unchanged if both agree.

    Raises `DocumentError` as `decompress` does.
    """
    if is_compressed == compressed:
        return stored
    return compress(stored) if compressed else decompress(stored, limit)
