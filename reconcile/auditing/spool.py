"""A list too long for memory: one item a line, as JSON, in a compressed temporary file without a name."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import msgspec

from reconcile.payload import spool_errors

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Lines(Generic[T]):
    """Items that are appended first and read afterwards, any number of times. The file lies where ``TMPDIR`` says."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._length = 0
        with kept_errors():
            self._file = tempfile.TemporaryFile(prefix="reconcile-")  # noqa: SIM115 - closed with this object
            self._writer: gzip.GzipFile | None = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        assert self._writer is not None  # noqa: S101 - nothing is added once it was read
        with kept_errors():
            self._writer.write(_encode(item) + b"\n")
        self._length += 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return map(self._decoder.decode, self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """Yield the items as JSON."""
        with kept_errors():
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._file.seek(0)
        with gzip.GzipFile(fileobj=self._file, mode="rb") as reader:
            for line in reader:
                yield line.rstrip(b"\n")


def kept_errors() -> AbstractContextManager[None]:
    """Name the place of the temporary files where one fails."""
    return spool_errors("what was found could not be kept there")
