"""A list too long for memory: one item a line, as JSON, in a compressed temporary file without a name."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import msgspec

from reconcile.errors import ReconcileError

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Lines(Generic[T]):
    """Items that are appended first and read afterwards, any number of times. The file lies where ``TMPDIR`` says."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._length = 0
        with spool_errors():
            self._file = tempfile.TemporaryFile(prefix="reconcile-")  # noqa: SIM115 - closed with this object
            self._writer: gzip.GzipFile | None = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        assert self._writer is not None  # noqa: S101 - nothing is added once it was read
        with spool_errors():
            self._writer.write(_encode(item) + b"\n")
        self._length += 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return map(self._decoder.decode, self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """Yield the items as JSON."""
        with spool_errors():
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._file.seek(0)
        with gzip.GzipFile(fileobj=self._file, mode="rb") as reader:
            for line in reader:
                yield line.rstrip(b"\n")


@contextmanager
def spool_errors() -> Iterator[None]:
    """Name the place of the temporary files: an error of it is none of a store's."""
    try:
        yield
    except OSError as error:
        place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - where the library looks
        raise ReconcileError(
            f"{place}: what was found could not be kept there: {error.strerror or error}",
            hint="make room there, or name another directory in TMPDIR; then run the same command again",
        ) from None
