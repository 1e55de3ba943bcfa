"""PostgreSQL's binary COPY, both ways: values go as they are, where psycopg2 spends several times their size.

A value's type says its column's: text, bytea (also a `Spool`, which may be text too), boolean or integer.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.payload import Spool, chunks_of

Value = str | bytes | bool | int | Spool | None

_PIECE_BYTES = 1 << 16
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_NULL = struct.pack("!i", -1)
_END = -1
_COUNT, _LENGTH, _BOOLEAN, _INTEGER = (struct.Struct(form) for form in ("!h", "!i", "!i?", "!ii"))


def copy_in(connection: Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """Put rows into columns of a table; those of integers have four bytes. Raises `DBAPIError` as a statement would."""
    listed = ", ".join(f'"{name}"' for name in names)
    with copy_cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({listed}) FROM STDIN (FORMAT binary)", BinaryCopy(rows), _PIECE_BYTES)


def copy_out(connection: Connection, query: str, values: Sequence[Any], types: Sequence[type]) -> Iterator[list[Any]]:
    """Yield the rows of a query: ``str``, ``bool``, ``int`` (of eight bytes) or ``bytes`` by column, None for NULL.

    Text as ``bytes`` is UTF-8. What the query gives is held in memory. Raises `DBAPIError`.
    """
    buffer = io.BytesIO()
    with copy_cursor(connection) as cursor:
        text = cursor.mogrify(query, values).decode()
        cursor.copy_expert(f"COPY ({text}) TO STDOUT (FORMAT binary)", buffer)
    data = buffer.getbuffer()
    at = len(_HEADER)
    while (fields := struct.unpack_from("!h", data, at)[0]) != _END:
        at += 2
        row: list[Any] = []
        for kind in types[:fields]:
            size = struct.unpack_from("!i", data, at)[0]
            at += 4
            row.append(None if size < 0 else _value(kind, data[at : at + size]))
            at += max(size, 0)
        yield row


def _value(kind: type, data: memoryview) -> Value:
    if kind is bytes:
        return bytes(data)
    if kind is str:
        return str(data, "utf-8")
    return bool(data[0]) if kind is bool else int.from_bytes(data, "big", signed=True)


@contextmanager
def copy_cursor(connection: Connection) -> Iterator[Any]:
    """Open psycopg2's own cursor for COPY; its errors are raised as `DBAPIError`."""
    import psycopg2  # noqa: PLC0415

    cursor: Any = connection.connection.cursor()
    try:
        yield cursor
    except psycopg2.Error as error:
        raise DBAPIError.instance("COPY", None, error, psycopg2.Error) from error
    finally:
        cursor.close()


class BinaryCopy:
    """Rows as a file to read from, for ``COPY ... FROM STDIN (FORMAT binary)``."""

    def __init__(self, rows: Iterable[Sequence[Value]]) -> None:
        self._pieces = _pieces(rows)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        held, length = [self._rest], len(self._rest)
        while length < size and (piece := next(self._pieces, b"")):
            held.append(piece)
            length += len(piece)
        data = b"".join(held)
        self._rest = data[size:]
        return data[:size]


def _pieces(rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    yield _HEADER
    length = _LENGTH.pack
    for row in rows:
        parts = [_COUNT.pack(len(row))]
        for value in row:
            if value is None:
                parts.append(_NULL)
            elif isinstance(value, str):
                data = value.encode()
                parts.append(length(len(data)))
                parts.append(data)
            elif isinstance(value, bool):
                parts.append(_BOOLEAN.pack(1, value))
            elif isinstance(value, int):
                parts.append(_INTEGER.pack(4, value))
            elif isinstance(value, bytes):
                parts += (length(len(value)), value)
            else:
                yield b"".join([*parts, length(len(value))])
                yield from chunks_of(value)
                parts = []
        if parts:  # nothing would be the end
            yield b"".join(parts)
    yield _COUNT.pack(_END)
