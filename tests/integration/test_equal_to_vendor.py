"""Moving one of the vendor's archives gives what the vendor's own code wrote in another; undo gives back the first.

R1 (every document reads as before), R5 (every row in every column, every object, after undo), and the
compatibility contract: URLs, keys, encodings, bytes and content types are those of the vendor's drivers.
"""

from __future__ import annotations

import base64
import zlib
from itertools import permutations
from pathlib import Path

import pytest

from examples.service_reader import read_all
from reconcile import verbs
from reconcile.planning.planner import PlanRequest
from tests.archives import NAMES, TABLES, Place, catalog, dump, truth, vendor_archive
from tests.servers.moto import MotoServer

# Builds of zlib differ in what they write; does ours compress as the vendor's did?
_COMPRESSED = next(
    item for item in vendor_archive("localfs-compressed")["objects"] if base64.b64decode(item["content"])[:1] == b"\x78"
)
SAME_ZLIB = (_BYTES := base64.b64decode(_COMPRESSED["content"])) == zlib.compress(zlib.decompress(_BYTES), 3)
NO_MOVE = {("db2", "db2-compressed"), ("db2-compressed", "db2")}
KEPT = [("db", "s3"), ("s3-compressed", "db2"), ("localfs", "split"), ("split", "localfs-compressed")]


def pair(before: str, after: str) -> object:
    """Return the case of one pair: each form goes once and comes once, in a ring; the other pairs in test-all."""
    quick = after == NAMES[(NAMES.index(before) + 2) % len(NAMES)]
    return pytest.param(before, after, id=f"{before}-to-{after}", marks=[] if quick else [pytest.mark.matrix])


def documents(config: Path) -> dict[tuple[str, ...], object]:
    """Read the archive as a service configured so would."""
    return {name[:3]: content for name, content in read_all(config).items()}


def assert_written_as_by_vendor(place: Place, name: str) -> None:
    found, expected = catalog(place.database), place.expected_rows(name)
    assert {key: row[:2] for key, row in found.items()} == {key: row[:2] for key, row in expected.items()}
    objects, vendors = place.objects(), place.expected_objects(name)
    assert objects.keys() == vendors.keys()
    assert place.content_types() <= {"binary/octet-stream"}
    if SAME_ZLIB:
        assert objects == vendors
        assert found == expected
    else:  # what is compressed has other bytes; that it reads back right is shown beside this
        uncompressed = {key for key, row in expected.items() if not row[1]}
        assert {key: found[key] for key in uncompressed} == {key: expected[key] for key in uncompressed}


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_of_the_vendor_reads_as_it_says(name: str, folder: Path, database: str, moto: MotoServer) -> None:
    assert documents(Place(folder, database, moto).load(name)) == truth(name)


@pytest.mark.parametrize(("before", "after"), [pair(*names) for names in permutations(NAMES, 2)])
def test_move_and_undo(before: str, after: str, folder: Path, database: str, moto: MotoServer) -> None:
    here, there = Place(folder, database, moto), Place(folder, database, moto)
    source, dest = here.load(before), there.config(after)
    original = {table: dump(database, table) for table in TABLES}
    original_objects = here.objects()

    plan = verbs.plan(source, dest, out=folder / "p.json")
    assert plan.header.summary.blocked.documents == 0
    if (before, after) in NO_MOVE:
        assert plan.header.summary.moves.documents == 0
        assert {table: dump(database, table) for table in TABLES} == original
        return
    verbs.apply(verbs.prepare(plan.path))

    assert documents(dest) == truth(before)
    assert_written_as_by_vendor(there, after)
    assert not here.objects()

    verbs.apply(verbs.prepare(folder / "p.undo.json"))

    assert {table: dump(database, table) for table in TABLES} == original
    assert here.objects() == original_objects
    assert not there.objects()


@pytest.mark.parametrize(("before", "after"), [pytest.param(*names, id="-to-".join(names)) for names in KEPT])
def test_move_keeping_sources_and_undo(before: str, after: str, folder: Path, database: str, moto: MotoServer) -> None:
    here, there = Place(folder, database, moto), Place(folder, database, moto)
    source, dest = here.load(before), there.config(after)
    original = {table: dump(database, table) for table in TABLES}
    original_objects = here.objects()

    plan = verbs.plan(source, dest, request=PlanRequest(keep_source=True), out=folder / "p.json")
    verbs.apply(verbs.prepare(plan.path))
    assert documents(dest) == truth(before)
    assert here.objects() == original_objects
    assert set(original["archive_document"]) <= set(dump(database, "archive_document"))
    assert set(original["object_storage"]) <= set(dump(database, "object_storage"))

    verbs.apply(verbs.prepare(folder / "p.undo.json"))
    assert {table: dump(database, table) for table in TABLES} == original
    assert here.objects() == original_objects
    assert not there.objects()
