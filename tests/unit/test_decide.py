"""What is decided of one row, as tables: where its document is, where it belongs, what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.catalog import CatalogRow
from reconcile.config import Backend, Config
from reconcile.config.model import Compression
from reconcile.planning.decide import Decision, DesiredState
from reconcile.planning.model import Blocker, InPlace, Move

PLAIN = Compression(enabled=False, min_size_kbytes=100)
FROM_1_KIB = Compression(enabled=True, min_size_kbytes=1)
BUCKET = {"bucket": "docs", "access_key": "a", "secret_key": "b", "region": "r", "url": "http://s3.test"}


def store(driver: str, compression: Compression = PLAIN, **settings: Any) -> Backend:
    return Backend("object_store", driver, settings, compression)


DB, DB2 = store("db"), store("db2")
FILES = store("localfs", archive_data_dir="/archive")
S3, OTHER_S3 = store("s3", **BUCKET), store("s3", **(BUCKET | {"bucket": "more"}))
PREFIXED = store("s3", **(BUCKET | {"prefix": "pre/"}))
SWIFT = store("swift", auth="http://k.test", user="u", key="k", container="docs")
ROW = CatalogRow("admin", "policy_bundles", "one", "one.json", "db://admin/policy_bundles/one", False, "d", 3, 7)


def config(object_store: Backend, archive: Backend | None = None) -> Config:
    archive = None if archive is None else evolve(archive, role="analysis_archive")
    return Config(Path("/c.yaml"), object_store, archive)


def decide(source: Config, dest: Config, *, allow_unreadable: bool = False, **row: Any) -> Decision:
    return DesiredState(source, dest, allow_unreadable).decide(evolve(ROW, **row))


@pytest.mark.parametrize(
    ("dest", "url", "expected"),
    [
        (
            DB2,
            "db://admin/policy_bundles/one",
            ("source.object_store", "dest.object_store", "db2://admin/policy_bundles/one"),
        ),
        (FILES, "db://admin/policy_bundles/one", ("source.object_store", "dest.object_store", "file:///archive/")),
        (S3, "db://admin/policy_bundles/one", ("source.object_store", "dest.object_store", "s3://docs/")),
        (PREFIXED, "db://admin/policy_bundles/one", ("source.object_store", "dest.object_store", "s3://docs/pre/")),
        (SWIFT, "db://admin/policy_bundles/one", ("source.object_store", "dest.object_store", "swift://docs/")),
        # In a table of the catalog's that neither config names: every database has both.
        (S3, "db2://admin/policy_bundles/one", ("catalog.db2", "dest.object_store", "s3://docs/")),
    ],
)
def test_a_row_at_another_place_than_the_wanted_one_moves(
    dest: Backend, url: str, expected: tuple[str, str, str]
) -> None:
    move = decide(config(DB), config(dest), content_url=url)
    assert isinstance(move, Move)
    assert (move.source, move.dest) == expected[:2]
    assert move.after.content_url.startswith(expected[2])
    assert (move.before.content_url, move.before.digest, move.before.size, move.before.last_updated) == (url, "d", 3, 7)
    assert move.before.is_compressed is False
    assert (move.document, move.documentName) == (ROW.document, "one.json")


@pytest.mark.parametrize(
    ("source", "dest", "url"),
    [
        (DB, DB, "db://admin/policy_bundles/one"),
        (DB, DB2, "db2://admin/policy_bundles/one"),
        (S3, S3, "s3://docs/admin/policy_bundles/one.json"),
        (DB, S3, "s3://docs/admin/policy_bundles/one.json"),
        (DB, PREFIXED, "s3://docs/pre/admin/policy_bundles/one.json"),
        (DB, SWIFT, "swift://docs/admin/policy_bundles/one.json"),
    ],
)
def test_a_row_at_the_wanted_place_stays(source: Backend, dest: Backend, url: str) -> None:
    decision = decide(config(source), config(dest), content_url=url)
    assert isinstance(decision, InPlace), decision
    assert not decision.other_encoding


@pytest.mark.parametrize(
    ("bucket", "dest", "expected"),
    [
        ("analysis_archive", "dest.analysis_archive", "db2://admin/analysis_archive/one"),
        ("policy_bundles", "dest.object_store", "s3://docs/"),
    ],
)
def test_the_analysis_archive_has_a_place_of_its_own(bucket: str, dest: str, expected: str) -> None:
    move = decide(config(DB), config(S3, DB2), bucket=bucket, content_url=f"db://admin/{bucket}/one")
    assert isinstance(move, Move)
    assert (move.dest, move.after.content_url.startswith(expected)) == (dest, True)


def test_the_place_in_charge_is_asked_first_then_the_other_of_the_source() -> None:
    """Of two that read the same URL the one in charge of the logical bucket holds the document."""
    both = config(FILES, FILES)
    for bucket, source in (("analysis_archive", "source.analysis_archive"), ("policy_bundles", "source.object_store")):
        url = FILES_URL.replace("policy_bundles", bucket)
        move = decide(both, config(DB), bucket=bucket, content_url=url)
        assert isinstance(move, Move), move
        assert move.source == source
    move = decide(config(DB, S3), config(DB2), content_url="s3://docs/admin/policy_bundles/one.json")
    assert isinstance(move, Move)
    assert move.source == "source.analysis_archive"


FILES_URL = DesiredState(config(FILES), config(FILES)).places["source.object_store"].address.url(ROW.document)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("s3://before/admin/policy_bundles/one.json", "source.object_store@before"),
        ("s3://docs/admin/policy_bundles/one.json", "source.object_store"),
    ],
)
def test_what_was_written_before_the_bucket_was_changed_moves_too(url: str, source: str) -> None:
    """The services read it by its URL with the credentials of now; it belongs to no other place than the source's."""
    move = decide(config(S3), config(DB2), content_url=url)
    assert isinstance(move, Move), move
    assert move.source == source
    assert isinstance(decide(config(DB), config(S3), content_url="s3://before/admin/policy_bundles/one.json"), Blocker)


@pytest.mark.parametrize(
    ("row", "dest", "reason"),
    [
        ({"content_url": None}, DB2, "no_content_url"),
        ({"content_url": ""}, DB2, "no_content_url"),
        ({"content_url": "tape://x"}, DB2, "unknown_scheme"),
        ({"content_url": "no url at all"}, DB2, "unknown_scheme"),
        ({"content_url": "s3"}, DB2, "unknown_scheme"),
        ({"content_url": "s3://elsewhere/x"}, DB2, "not_owned"),
        ({"content_url": "db://admin/policy_bundles/o/ne"}, DB2, "ambiguous_url"),
        ({"bucket": "..", "content_url": "db://admin/../one"}, FILES, "leaves_data_dir"),
        ({"bucket": "a#b", "content_url": "db://admin/a#b/one"}, FILES, "unreadable_by_services"),
        ({"bucket": "b" * 300, "content_url": f"db://admin/{'b' * 300}/one"}, FILES, "key_too_long"),
        ({"size": (1 << 30) + 1}, DB2, "too_big"),
    ],
)
def test_what_stands_in_the_way(row: dict[str, Any], dest: Backend, reason: str) -> None:
    decision = decide(config(DB), config(dest), **row)
    assert isinstance(decision, Blocker), decision
    assert decision.reason == reason
    assert (decision.content_url, decision.size) == (row.get("content_url", ROW.content_url), row.get("size", 3))
    assert decision.detail


def test_the_largest_document_that_a_table_holds_is_not_too_big() -> None:
    limit = DesiredState(config(DB), config(DB2)).places["dest.object_store"].address.max_size
    odd = {"bucket": "b c", "content_url": "db://admin/b c/one"}  # no rule decides it
    for row in ({}, odd):
        assert isinstance(decide(config(DB), config(DB2), size=int(limit), **row), Move)
        assert isinstance(decide(config(DB), config(DB2), size=int(limit) + 1, **row), Blocker)
    assert isinstance(decide(config(DB), config(DB2), size=None), Move)


def test_unreadable_documents_move_where_that_is_allowed() -> None:
    row = {"bucket": "a#b", "content_url": "db://admin/a#b/one"}
    assert isinstance(decide(config(DB), config(FILES), **row), Blocker)
    assert isinstance(decide(config(DB), config(FILES), allow_unreadable=True, **row), Move)


@pytest.mark.parametrize(
    ("driver", "compression", "is_compressed", "size", "expected"),
    [
        ("localfs", FROM_1_KIB, False, 1025, True),
        ("localfs", FROM_1_KIB, False, 1024, False),  # the vendor compresses above the limit alone
        ("localfs", FROM_1_KIB, True, 3, True),  # it is so already, and its full size is not known
        ("localfs", FROM_1_KIB, False, None, None),
        ("localfs", PLAIN, False, 1 << 20, False),
        ("localfs", PLAIN, True, 3, False),
        ("db", FROM_1_KIB, False, 1 << 20, False),  # driver db holds nothing compressed
        ("db", FROM_1_KIB, True, 3, False),
    ],
)
def test_whether_the_copy_will_be_compressed(
    driver: str, compression: Compression, is_compressed: bool, size: int | None, expected: bool | None
) -> None:
    dest = store(driver, compression, **({"archive_data_dir": "/archive"} if driver == "localfs" else {}))
    row: dict[str, Any] = {"content_url": "s3://docs/admin/policy_bundles/one.json", "is_compressed": is_compressed}
    move = decide(config(S3), config(dest), size=size, **row)
    assert isinstance(move, Move)
    assert move.after.compressed is expected


@pytest.mark.parametrize(
    ("is_compressed", "size", "other"),
    [(False, 5000, True), (False, 10, False), (True, 10, False), (False, None, False), (None, 5000, True)],
)
def test_a_row_in_place_may_be_in_the_other_encoding(is_compressed: bool | None, size: int | None, other: bool) -> None:
    """That is counted, and not mended."""
    there = store("s3", FROM_1_KIB, **BUCKET)
    url = "s3://docs/admin/policy_bundles/one.json"
    decision = decide(config(there), config(there), content_url=url, is_compressed=is_compressed, size=size)
    assert isinstance(decision, InPlace)
    assert decision.other_encoding is other


def test_compressed_where_nothing_is_compressed_is_the_other_encoding() -> None:
    decision = decide(config(S3), config(S3), content_url="s3://docs/admin/policy_bundles/one", is_compressed=True)
    assert isinstance(decision, InPlace)
    assert decision.other_encoding


def test_where_a_row_is_known_to_be() -> None:
    state = DesiredState(config(DB), config(S3))
    held = state.holder(ROW)
    assert held is not None
    assert held[0].name == "source.object_store"
    located = state.locate(ROW)
    assert located == held[0].address.location(held[1])
    for url in (None, "", "tape://x", "db://admin/policy_bundles/o/ne"):
        assert state.holder(evolve(ROW, content_url=url)) is None
        assert state.locate(evolve(ROW, content_url=url)) is None


def test_the_target_of_a_move_is_where_its_url_leads() -> None:
    state = DesiredState(config(DB), config(PREFIXED))
    move = state.decide(ROW)
    assert isinstance(move, Move)
    address = state.places["dest.object_store"].address
    assert state.target(move) == address.location(address.key(ROW.document))


@pytest.mark.parametrize(("source", "dest", "bucket"), [(S3, OTHER_S3, "more"), (OTHER_S3, S3, "docs")])
def test_two_buckets_are_two_places(source: Backend, dest: Backend, bucket: str) -> None:
    here = DesiredState(config(source), config(dest)).places["source.object_store"].address.url(ROW.document)
    move = decide(config(source), config(dest), content_url=here)
    assert isinstance(move, Move)
    assert move.after.content_url == f"s3://{bucket}/admin/policy_bundles/one"


@pytest.mark.parametrize(
    ("source", "dest", "key"), [(S3, PREFIXED, "pre/admin"), (PREFIXED, S3, "admin")], ids=["into", "out of"]
)
def test_another_prefix_in_the_same_bucket_is_another_place(source: Backend, dest: Backend, key: str) -> None:
    """What the source's rule put there is not in place, although services would read it by its URL."""
    here = DesiredState(config(source), config(dest)).places["source.object_store"].address.url(ROW.document)
    move = decide(config(source), config(dest), content_url=here)
    assert isinstance(move, Move), move
    assert move.after.content_url == f"s3://docs/{key}/policy_bundles/one"


@pytest.mark.parametrize("key", ["0", "by/hand", "zzz"])
def test_what_nobodys_rule_put_into_the_wanted_bucket_stays(key: str) -> None:
    """The services read it there by its URL; who calls the bucket what makes no difference."""
    decision = decide(config(DB, S3), config(S3), content_url=f"s3://docs/{key}")
    assert isinstance(decision, InPlace), decision
    assert isinstance(decide(config(S3), config(S3), content_url=f"s3://docs/{key}"), InPlace)


def test_unreadable_documents_stay_unless_that_is_asked_for() -> None:
    row = evolve(ROW, bucket="a#b", content_url="db://admin/a#b/one")
    assert isinstance(DesiredState(config(DB), config(FILES)).decide(row), Blocker)
