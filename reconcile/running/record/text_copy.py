"""PostgreSQL's COPY in its text form, for many rows of short values: a line is made in one step.

Source of the escapes: PostgreSQL's documentation of COPY, "Text Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.stores.binary_copy import copy_cursor

Value = str | bool | int | None

_NULL = "\x01"
_PIECE_BYTES = 1 << 16
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t", _NULL: r"\x01"})


def copy_rows(connection: Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """Put rows into columns of a table: text, boolean or any integer. Rows are sent while they are read.

    Raises `DBAPIError` as a statement would, and what reading the rows raises as it is; nothing is put in then.
    """
    file = _Lines(rows)
    statement = f"COPY {table} ({', '.join(names)}) FROM STDIN (NULL E'\\x01', ENCODING 'UTF8')"
    try:
        with copy_cursor(connection) as cursor:
            cursor.copy_expert(statement, file, _PIECE_BYTES)
    except DBAPIError as error:
        if file.error is not None:  # psycopg2 has its text alone
            raise file.error from None
        if "error in .read()" in str(error):  # a signal's, before `read` had begun
            raise KeyboardInterrupt from None
        raise


class _Lines:
    """Rows as a file to read from; a piece ends with a line, so that it may be longer than asked for."""

    def __init__(self, rows: Iterable[Sequence[Value]]) -> None:
        self._lines = lines(rows)
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        held, length = list[str](), 0
        try:
            for line in self._lines:
                held.append(line)
                length += len(line)
                if length >= size:
                    break
            return "".join(held).encode()
        except BaseException as error:
            self.error = error
            raise


def lines(rows: Iterable[Sequence[Value]]) -> Iterator[str]:
    """Yield a line for each row."""
    for row in rows:
        words = [value if type(value) is str else _NULL if value is None else str(value) for value in row]
        line = "\t".join(words) + "\n"
        is_plain = (
            "\\" not in line
            and "\r" not in line
            and line.count("\n") == 1
            and line.count("\t") == len(row) - 1
            and line.count(_NULL) == row.count(None)
        )
        yield line if is_plain else "\t".join([_word(value) for value in row]) + "\n"


def _word(value: Value) -> str:
    if value is None:
        return _NULL
    return value.translate(_ESCAPES) if isinstance(value, str) else str(value)
