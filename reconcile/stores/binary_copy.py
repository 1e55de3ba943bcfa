"""PostgreSQL's binary COPY: rows go in as they are, streamed, where a parameter costs several times its size."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from reconcile.payload import Spool, chunks_of

Value = str | bytes | bool | int | Spool | None


class BinaryCopy:
    """Rows as a file to read from, for ``COPY ... FROM STDIN (FORMAT binary)``.

    A value's type says its column's: text, bytea (also a `Spool`), boolean, or integer of four bytes.
    A `Spool` may also be text.
    """

    def __init__(self, rows: Iterable[Sequence[Value]]) -> None:
        self._pieces = _pieces(rows)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        answer, self._rest = self._rest[:size], self._rest[size:]
        return answer


def _pieces(rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    yield b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    for row in rows:
        head = struct.pack("!h", len(row))
        for value in row:
            if isinstance(value, Spool):
                yield head + struct.pack("!i", len(value))
                yield from chunks_of(value)
                head = b""
            else:
                head += _field(value)
        yield head
    yield struct.pack("!h", -1)


def _field(value: str | bytes | bool | int | None) -> bytes:  # noqa: FBT001 - a column's value
    if value is None:
        return struct.pack("!i", -1)
    if isinstance(value, bool):
        return struct.pack("!i?", 1, value)
    if isinstance(value, int):
        return struct.pack("!ii", 4, value)
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!i", len(data)) + data
