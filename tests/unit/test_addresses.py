"""URLs and keys are the vendor's, and what the services could not read back is known before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.stores.addresses import Address, FileAddress, ObjectAddress, TableAddress
from reconcile.stores.store_id import endpoint_identity

DB = TableAddress("db", "database:db", 100)
S3 = ObjectAddress("s3", "s3:aws/bucket", "bucket", "pre/")
FILES = FileAddress("/srv/archive/")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (DB, "db://team/policy_bundles/a/b:1"),
        (S3, "s3://bucket/pre/team/policy_bundles/a/b:1"),
        (
            FILES,
            "file:///srv/archive/f894427cc1c571f79da49605ef8b112f/policy_bundles/18/18c184d616d3b770e5cf5ef9a2bf2138.json",
        ),
    ],
    ids=["db", "s3", "localfs"],
)
def test_urls_are_the_vendors_and_lead_back(address: Address, url: str) -> None:
    document = ("team", "policy_bundles", "a/b:1")
    assert address.url(document) == url
    assert address.keys(url, document) == [address.key(document)]


@pytest.mark.parametrize(
    ("document", "db", "s3", "files"),
    [
        (("admin", "b", "plain:/1"), True, True, True),
        (("Ops.Team@example.com", "b", "x"), True, True, True),
        (("admin", "b", "a#2"), False, False, True),
        (("admin", "b", "a?2"), False, False, True),
        (("admin", "b", "a\tb"), False, False, True),
        (("admin", "b", "a\nb"), False, False, True),
        (("a/b", "b", "x"), False, True, True),
        (("admin", "b/c", "x"), False, True, True),
        (("adm[in", "b", "x"), False, False, True),
        (("admin", "b#c", "x"), False, False, False),
        (("admin", "b", "a%20b ü"), True, True, True),
        (("acc\u2100unt", "b", "x"), False, True, True),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else None,
)
def test_what_services_can_read_back(document: tuple[str, str, str], db: bool, s3: bool, files: bool) -> None:
    found = (DB.services_can_read(document), S3.services_can_read(document), FILES.services_can_read(document))
    if document[0].startswith("adm["):
        assert found[0] is False
        assert found[2] is True
    else:
        assert found == (db, s3, files)


@pytest.mark.parametrize("bucket", ["Upper", "a:b", "a@b"])
def test_buckets_that_urlparse_changes(bucket: str) -> None:
    assert not ObjectAddress("s3", "x", bucket).services_can_read(("admin", "b", "x"))


def test_a_url_that_columns_do_not_lead_to_is_split_by_position() -> None:
    document = ("admin", "b", "x")
    assert S3.keys("s3://bucket/pre/other#key?", document) == ["pre/other#key?"]
    assert S3.keys("s3://bucket/elsewhere", document) == []
    assert S3.keys("s3://bucket2/pre/x", document) == []
    assert DB.keys("db://u/b/x", document) == [("u", "b", "x")]
    assert len(DB.keys("db://u/b/x/y", document)) == 3


def test_paths_stay_below_the_data_dir(tmp_path: Path) -> None:
    address = FileAddress(str(tmp_path))
    for bucket in ("/etc", "..", "a/../..", "a//b", "."):
        problem = address.problem(address.key(("admin", bucket, "x")))
        assert problem
        assert problem[0] == "leaves_data_dir"
    assert address.problem(address.key(("../..", "b", "../../x"))) is None
    assert address.problem(address.key(("admin", "b" * 256, "x"))) == (
        "key_too_long",
        "a name in the path has 256 bytes, the limit is 255",
    )


def test_a_directory_is_known_by_device_and_inode(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    here, link = FileAddress(str(tmp_path / "a")), FileAddress(f"{tmp_path}/link/")
    assert here.identity == link.identity
    document = ("admin", "b", "x")
    assert here.keys(link.url(document), document) == [here.key(document)]
    assert FileAddress(str(tmp_path)).keys(link.url(document), document)[0].startswith("link/")  # type: ignore[union-attr]


def test_endpoints() -> None:
    assert endpoint_identity("http://Host:9000/") == endpoint_identity("http://u:p@host:9000")
    assert endpoint_identity("https://host") == endpoint_identity("https://host:443/")
    assert endpoint_identity("http://host") != endpoint_identity("https://host")
    assert endpoint_identity(None) == "aws"


def test_keys_have_a_limit() -> None:
    assert S3.problem("x" * 1024) is None
    assert S3.problem("ü" * 513) == ("key_too_long", "the key has 1,026 bytes, the limit is 1,024")
