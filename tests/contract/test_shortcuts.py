"""A copy that PostgreSQL makes by itself keeps every promise of one that goes through us (R3, R5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import frozen

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.config import Backend
from reconcile.errors import DocumentError
from reconcile.payload import md5
from reconcile.secret import Secret
from reconcile.stores import Content, Stat, Store, Transfer, Transferred, Write, open_store
from reconcile.stores.addresses import Document, Key
from tests.archives import query
from tests.world import World

Copy = Callable[[Sequence[Transfer]], dict[Key, Transferred | DocumentError]]

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

    def there(self) -> Copy:
        return shortcut(self.db, self.db2)


def shortcut(source: Store, dest: Store) -> Copy:
    way = dest.shortcut_from(source)
    assert way is not None
    return way.copy


@pytest.fixture
def pair(folder: Path, database: str) -> Iterator[Pair]:
    world = World(folder, database)
    world.add_all((name, data, user, bucket) for (user, bucket, name), data in CONTENT.items())
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
        assert isinstance(there, Transferred)
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
    back = shortcut(pair.db2, pair.db)
    kept = {document: answer.attributes for document, answer in done.items() if isinstance(answer, Transferred)}
    assert set(back([Transfer(d, d, RIGHT[d], kept[d]) for d in CONTENT])) == set(CONTENT)
    assert query(pair.world.url, "SELECT * FROM archive_document ORDER BY 2") == before


def test_without_knowing_whether_it_is_text_the_database_finds_out(pair: Pair) -> None:
    """As the services tell it: valid UTF-8 is text. What has a NUL byte is left, for reading to decide."""
    samples = [b"", b"plain", "grün 日本 🗿".encode(), b"a\nb\xe4", "\ufffe\U0010ffff".encode(), b"\xff\xfe", b"\xc3"]
    samples += [b"\xc3\x28", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\xaf"]
    samples += [b"\xf0\x80\x80\xaf", b"\xf8\x88\x80\x80\x80", b"a\0b"]
    documents = {("admin", "policy_bundles", f"s{number}"): data for number, data in enumerate(samples)}
    pair.db2.write([Write(document, data, md5(data), TIMES) for document, data in documents.items()])
    back = shortcut(pair.db2, pair.db)
    done = back(transfers({document: md5(data) for document, data in documents.items()}))
    assert set(documents) - set(done) == {("admin", "policy_bundles", "s15")}
    by_sql = query(
        pair.world.url, """SELECT jsondata, b64_encoded FROM archive_document WHERE "archiveId" LIKE 's%' ORDER BY 1"""
    )
    pair.world.sql("""DELETE FROM archive_document WHERE "archiveId" LIKE 's%'""")
    pair.db.write([Write(document, documents[document], md5(documents[document])) for document in done])
    assert by_sql == query(
        pair.world.url, """SELECT jsondata, b64_encoded FROM archive_document WHERE "archiveId" LIKE 's%' ORDER BY 1"""
    )


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
    assert stores[1].shortcut_from(stores[0]) is None
    catalog.close()
