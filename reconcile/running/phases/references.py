"""Who refers to a place: catalog rows with another spelling of its URL, and other runs that have staged there (R3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec
import sqlalchemy as sa

from reconcile.catalog import Catalog, CatalogRow
from reconcile.catalog.rows import row_columns, streamed
from reconcile.catalog.tables import archive_metadata
from reconcile.running.record.run import Run
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.tables import moves
from reconcile.stores import Address, Location
from reconcile.stores.addresses import FileAddress, Key

_READ_AHEAD = 5000
_DIRECTORIES = 1 << 14


def decode_key(text: str) -> Key:
    """Return a key from the text that a work table keeps."""
    key = msgspec.json.decode(text)
    return key if isinstance(key, str) else (key[0], key[1], key[2])


def referred_by_other_names(catalog: Catalog, addresses: Iterable[Address]) -> set[Location]:
    """Return locations that rows refer to by another URL than the rule's: only a data dir has several names.

    What a path leads to is asked of the file system: spellings, and symbolic links wherever they stand.
    """
    files = [address for address in addresses if isinstance(address, FileAddress)]
    if not files:
        return set()
    roots = {os.path.realpath(address.data_dir): address for address in files}
    real_directory = lru_cache(_DIRECTORIES)(os.path.realpath)  # asked once for the many files of each
    referred = set[Location]()
    query = sa.select(*row_columns()).where(archive_metadata.c.content_url.startswith("file://"))
    with catalog.snapshot() as connection:
        for record in connection.execute(query, execution_options=streamed(_READ_AHEAD)):
            row = CatalogRow(*record)
            url = row.content_url or ""
            if any(url == address.url(row.document) for address in files):
                continue
            for address in files:
                referred.update(address.location(key) for key in address.keys(url, row.document))
            path = _real_path(url.removeprefix("file://"), real_directory)
            for root, address in roots.items():
                if path.startswith(f"{root}/"):
                    referred.add(address.location(path.removeprefix(f"{root}/")))
    return referred


def _real_path(path: str, real_directory: Callable[[str], str]) -> str:
    """Return where a path leads; ``real_directory`` tells where its directory does."""
    directory, _slash, name = path.rpartition("/")
    if not directory or name in ("", ".", ".."):
        return os.path.realpath(path)
    real = f"{real_directory(directory)}/{name}"
    return os.path.realpath(real) if os.path.islink(real) else real


def referred_more_than_once(run: Run, addresses: Iterable[Address]) -> set[str | Location]:
    """Return URLs that several rows share, and locations that a row refers to by another name than the rule's."""
    columns = archive_metadata.c
    shared = sa.select(columns.content_url).group_by(columns.content_url).having(sa.func.count() > 1)
    with run.catalog.snapshot() as connection:
        urls = set(connection.execute(shared).scalars())
    return urls | referred_by_other_names(run.catalog, addresses)


def is_referred_source() -> sa.ColumnElement[bool]:
    """Return the condition that a catalog row refers to a move's source, by the same URL."""
    return moves.c.before_url.in_(sa.select(archive_metadata.c.content_url))


def has_moved_on(later: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that later runs moved a move's document, or concern its source."""
    theirs = moves.alias("theirs")
    named = sa.and_(theirs.c.run_id.in_(later), theirs.c.state == MoveState.STAGED)
    key = ("user_id", "bucket", "archive_id", "document_name")
    return [
        sa.exists().where(named, *(theirs.c[name] == moves.c[name] for name in key)),
        moves.c.before_url.in_(sa.select(theirs.c.before_url).where(named)),
        moves.c.before_url.in_(sa.select(theirs.c.after_url).where(named)),
    ]


def staged_by_others(run: Run) -> set[Location]:
    """Return locations that other unfinished runs have staged, are staging, or have adopted."""
    others = run.unfinished_others()
    if not others:
        return set()
    query = sa.select(moves.c.dest_store, moves.c.dest_key).where(
        moves.c.run_id.in_(others), moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN, Origin.ADOPTED))
    )
    with run.catalog.snapshot() as connection:
        rows = connection.execute(query, execution_options=streamed(_READ_AHEAD))
        return {Location(store, decode_key(key)) for store, key in rows}
