"""A copy that PostgreSQL makes by itself keeps every promise of one that goes through us (R3, R5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.config import Backend
from reconcile.payload import md5
from reconcile.secret import Secret
from reconcile.stores import Content, Stat, Store, Transfer, Write, open_store
from reconcile.stores.addresses import Document
from reconcile.stores.shortcuts import Shortcut, shortcut
from tests.archives import query
from tests.world import World

TEXT: Document = ("admin", "policy_bundles", "text")
BYTES: Document = ("admin", "policy_bundles", "bytes")
CONTENT = {TEXT: "grün\n".encode() * 30, BYTES: bytes(range(256)) * 9}
TIMES = {"object_metadata": None, "created_at": 1, "last_updated": 2}


@frozen
class Pair:
    """Tables ``db`` and ``db2`` of one database, with some documents in the first."""

    world: World
    catalog: Catalog
    db: Store
    db2: Store

    def there(self) -> Shortcut:
        way = shortcut(self.catalog, self.db, self.db2)
        assert way is not None
        return way


@pytest.fixture
def pair(folder: Path, database: str) -> Iterator[Pair]:
    world = World(folder, database)
    for document, data in CONTENT.items():
        world.add(document[2], data, document[0], document[1])
    catalog = connect(DatabaseOptions(url=Secret(database)))
    db, db2 = (open_store(Backend("object_store", driver), catalog, "test") for driver in ("db", "db2"))
    yield Pair(world, catalog, db, db2)
    catalog.close()


def transfers(digests: dict[Document, str], **attributes: object) -> list[Transfer]:
    return [Transfer(document, document, digest, attributes) for document, digest in digests.items()]


RIGHT = {document: md5(data) for document, data in CONTENT.items()}


def test_it_tells_what_reading_and_writing_would_tell(pair: Pair) -> None:
    done = pair.there()(transfers(RIGHT, **TIMES))
    read, written = pair.db.read([TEXT, BYTES]), pair.db2.look([TEXT, BYTES], digest=True)
    for document in (TEXT, BYTES):
        source, there = read[document], done[document]
        assert isinstance(source, Content)
        assert (there.version, there.md5, there.attributes, there.reproducible) == (
            source.version,
            source.md5,
            source.attributes,
            source.reproducible,
        )
        assert there.stat == written[document]
    copies = pair.db2.read([TEXT, BYTES])
    assert {key: copy.data for key, copy in copies.items() if isinstance(copy, Content)} == CONTENT


def test_the_way_back_restores_every_column(pair: Pair) -> None:
    before = query(pair.world.url, "SELECT * FROM archive_document ORDER BY 2")
    done = pair.there()(transfers(RIGHT, **TIMES))
    pair.world.sql("DELETE FROM archive_document")
    back = shortcut(pair.catalog, pair.db2, pair.db)
    assert back is not None
    assert set(back([Transfer(d, d, RIGHT[d], done[d].attributes) for d in CONTENT])) == set(CONTENT)
    assert query(pair.world.url, "SELECT * FROM archive_document ORDER BY 2") == before


def test_without_knowing_whether_it_is_text_nothing_goes_to_db(pair: Pair) -> None:
    pair.there()(transfers(RIGHT, **TIMES))
    back = shortcut(pair.catalog, pair.db2, pair.db)
    assert back is not None
    assert back(transfers(RIGHT)) == {}


def test_content_with_another_digest_is_left(pair: Pair) -> None:
    done = pair.there()(transfers(RIGHT | {TEXT: md5(b"other")}, **TIMES))
    assert set(done) == {BYTES}
    assert set(pair.db2.look([TEXT, BYTES])) == {BYTES}


def test_a_key_that_is_taken_is_left(pair: Pair) -> None:
    taken = pair.db2.write([Write(TEXT, b"there before", md5(b"there before"), TIMES)])[TEXT]
    assert isinstance(taken, Stat)
    assert set(pair.there()(transfers(RIGHT, **TIMES))) == {BYTES}
    there = pair.db2.read([TEXT])[TEXT]
    assert isinstance(there, Content)
    assert there.data == b"there before"


def test_two_rows_of_one_document_are_left(pair: Pair) -> None:
    pair.world.sql(
        """INSERT INTO archive_document SELECT bucket, "archiveId", "userId", 'other.json', created_at, last_updated,
        record_state_key, record_state_val, jsondata, b64_encoded FROM archive_document WHERE "archiveId" = 'text'"""
    )
    assert set(pair.there()(transfers(RIGHT, **TIMES))) == {BYTES}


def test_a_row_that_cannot_be_decoded_does_no_harm(pair: Pair) -> None:
    pair.world.sql("""UPDATE archive_document SET jsondata = '=not base64=' WHERE "archiveId" = 'bytes'""")
    assert pair.there()(transfers(RIGHT, **TIMES)) == {}
    assert pair.db2.look([TEXT, BYTES]) == {}


def test_on_sqlite_there_is_none(tmp_path: Path) -> None:
    from tests.archives import new_sqlite

    catalog = connect(DatabaseOptions(url=Secret(new_sqlite(tmp_path))))
    stores = [open_store(Backend("object_store", driver), catalog, "test") for driver in ("db", "db2")]
    assert shortcut(catalog, *stores) is None
    catalog.close()
