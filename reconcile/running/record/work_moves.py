"""A move as the run works on it: made of a row of the work table, and put there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count, groupby
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from attrs import fields, frozen
from sqlalchemy.engine import Connection

from reconcile.control import in_batches
from reconcile.planning.model import After, Before, Blocker, Move, Pinned
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.tables import moves
from reconcile.running.record.text_copy import copy_rows
from reconcile.stores import Location
from reconcile.stores.addresses import Document

LOAD_ROWS = 5000


@frozen
class Original:
    """What was read at the source, as an undo needs it: MD5 of the stored bytes, the driver's other columns."""

    md5: str
    attributes: dict[str, Any]


@frozen
class WorkMove:
    """A move as the run works on it."""

    seq: int
    move: Move
    dest_store: str
    dest_key: str
    state: MoveState
    origin: Origin | None
    keep: bool
    after_is_compressed: bool | None
    after_digest: str | None
    after_size: int | None
    source_version: str | None
    copy_version: str | None
    copy_mark: str | None
    original: Original | None
    restore: Original | None
    replaces: str | None
    reason: str | None = None
    detail: str | None = None

    @property
    def document(self) -> Document:
        """The name of the document."""
        return self.move.document


@frozen
class StagedCopy:
    """A staged move as far as the look at its copy needs it, which is a third of the work; sizes are in bytes."""

    seq: int
    document: Document
    dest: str
    url: str
    before_size: int | None
    size: int | None
    version: str | None
    mark: str | None
    origin: str | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> StagedCopy:
        """Make it from a row of `COPY_COLUMNS`."""
        seq, user, bucket, archive_id, *rest = row
        return cls(seq, (user, bucket, archive_id), *rest)


_THIN = 4  # numbers a move of a batch: the few that failed of many are looked up one by one
_COPY = ("seq", "user_id", "bucket", "archive_id", "dest", "after_url", "before_size", "after_size")
COPY_COLUMNS = [moves.c[name] for name in (*_COPY, "copy_version", "copy_mark", "origin")]

_original = msgspec.json.Decoder(Original)


def encode_original(original: Original) -> str:
    """Return the JSON text that a work table keeps."""
    return msgspec.json.encode(original).decode()


def of_batch(works: Sequence[WorkMove]) -> sa.ColumnElement[bool]:
    """Return the condition that a move has about the numbers of a batch: by their span, if it is not a thin one."""
    seqs = [work.seq for work in works]
    first, last = min(seqs), max(seqs)
    return moves.c.seq.between(first, last) if last - first < _THIN * len(seqs) else moves.c.seq.in_(seqs)


def load(connection: Connection, run_id: str, batches: Iterable[Iterable[dict[str, Any]]], first: int = 0) -> int:
    """Insert moves in bulk, numbered in their order from ``first`` on; return how many. What a row lacks is NULL.

    A batch of any length is inserted while it is read: until its end the connection must not be used for anything else.
    """
    numbers = count(first)
    for batch in batches:
        for names, alike in groupby(batch, key=tuple):
            columns = ["run_id", "seq", *names]
            rows = ([run_id, next(numbers), *row.values()] for row in alike)
            if connection.dialect.name == "postgresql":
                copy_rows(connection, moves.name, columns, rows)
                continue
            for some in in_batches(rows, LOAD_ROWS):
                connection.execute(moves.insert(), [dict(zip(columns, row, strict=True)) for row in some])
    return next(numbers) - first


def move_row(move: Move, dest: Location, *, keep: bool = False) -> dict[str, Any]:
    """Return the row of a move that is still to be done; ``dest`` is where its copy will be, ``keep`` its source."""
    before, after, pinned = move.before, move.after, move.after.pinned
    return {
        "user_id": move.userId,
        "bucket": move.bucket,
        "archive_id": move.archiveId,
        "document_name": move.documentName,
        "source": move.source,
        "dest": move.dest,
        "action": move.action,
        "dest_store": dest.store,
        "dest_key": msgspec.json.encode(dest.key).decode(),
        "before_url": before.content_url,
        "before_is_compressed": before.is_compressed,
        "before_digest": before.digest,
        "before_size": before.size,
        "before_last_updated": before.last_updated,
        "after_url": after.content_url,
        "compressed": after.compressed,
        "pinned": pinned is not None,
        "after_is_compressed": pinned.is_compressed if pinned else None,
        "after_digest": pinned.digest if pinned else None,
        "after_size": pinned.size if pinned else None,
        "keep": keep,
        "state": MoveState.PLANNED.value,
        "reason": None,
        "detail": None,
    }


_NOTHING = Move("", "", "", "", "", "", Before("", None, None, None, None), After("", None))
_NO_MOVE: dict[str, Any] = dict.fromkeys(move_row(_NOTHING, Location("", "")))


def blocker_row(blocker: Blocker) -> dict[str, Any]:
    """Return the row of a document that is left where it is, for status and for the switch's look at new rows.

    It has the columns of a move's row, so that both go in together.
    """
    return _NO_MOVE | {
        "user_id": blocker.userId,
        "bucket": blocker.bucket,
        "archive_id": blocker.archiveId,
        "document_name": blocker.documentName,
        "before_url": blocker.content_url,
        "before_size": blocker.size,
        "pinned": False,
        "keep": False,
        "state": MoveState.BLOCKED.value,
        "reason": blocker.reason,
        "detail": blocker.detail,
    }


_INDEX = {column.name: index for index, column in enumerate(moves.columns)} | {
    "original": list(moves.columns.keys()).index("read_back")  # of what was read at the source
}
_OWN = [field.name for field in fields(WorkMove) if field.name != "move"]


def _columns(*names: str) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    return itemgetter(*(_INDEX[name] for name in names))


_move = _columns("user_id", "bucket", "archive_id", "document_name", "source", "dest", "action")
_before = _columns("before_url", "before_is_compressed", "before_digest", "before_size", "before_last_updated")
_after = _columns("after_url", "compressed", "pinned")
_after_columns = _columns("after_is_compressed", "after_digest", "after_size")
_own = _columns(*_OWN)


def work_move(row: Sequence[Any]) -> WorkMove:
    """Return a move from a row of the work table: the columns of `moves` in their order."""
    before = Before(*_before(row))
    after_url, compressed, is_pinned = _after(row)
    pinned = Pinned(*_after_columns(row)) if is_pinned else None
    rest = dict(zip(_OWN, _own(row), strict=True))
    for name in ("original", "restore"):
        rest[name] = _original.decode(rest[name]) if rest[name] else None
    rest["state"] = MoveState(rest["state"])
    rest["origin"] = Origin(rest["origin"]) if rest["origin"] else None
    user_id, bucket, archive_id, document_name, source, dest, action = _move(row)
    after = After(after_url, compressed, pinned)
    move = Move(user_id, bucket, archive_id, document_name, source, dest, before, after, action)
    return WorkMove(move=move, **rest)
