"""Plans and configs that are damaged or odd: refused, each with a message of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.errors import (
    BackendError,
    ConfigError,
    PlanFileError,
)
from reconcile.payload import md5
from reconcile.planning.planfile import open_plan
from tests.world import DB, World, localfs


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\x00garbage-garbage", b"{\n\xff\xfe\n"], ids=["gzip", "not UTF-8"])
def test_damaged_plan_files(folder: Path, content: bytes) -> None:
    path = folder / ("p.json.gz" if content.startswith(b"\x1f") else "p.json")
    path.write_bytes(content)
    with pytest.raises(PlanFileError):
        open_plan(path).verify()


def test_a_place_that_no_file_system_has_is_not_ours(lite: World) -> None:
    """SQLite holds what PostgreSQL does not: a NUL in a URL. That document is blocked, and no other."""
    ends = [lite.config(name, localfs(lite.folder / name)) for name in ("source", "dest")]
    user, name = md5(b"admin"), md5(b"x")
    url = f"file:///odd\0place/{user}/docs/{name[:2]}/{name}.json"
    lite.add("x", b"x")
    lite.sql("UPDATE archive_metadata SET bucket = 'docs', content_url = %s", url)
    lite.add("y", b"y")
    lite.sql(
        "UPDATE archive_metadata SET content_url = %s WHERE \"archiveId\" = 'y'",
        f"file://{lite.folder}/source/{user}/policy_bundles/{md5(b'y')[:2]}/{md5(b'y')}.json",
    )
    plan = lite.plan(*ends)
    assert plan.header.summary.blocked_by_reason == {"not_owned": 1}
    assert plan.header.summary.moves.documents == 1


def test_odd_config_values(lite: World) -> None:
    dest = lite.folder / "dest.yaml"
    dest.write_text("credentials: {database: text}\nservices: {catalog: {object_store: {}}}\n")
    assert verbs.load_config(dest).database is None
    url = {"bucket": "b", "access_key": "a-key", "secret_key": "s-key", "url": "http://h:abc"}
    section = {"storage_driver": {"name": "s3", "config": url}}
    lite.add("x", b"x")
    with pytest.raises((BackendError, ConfigError)):
        lite.apply(lite.plan(lite.config("config", DB), lite.config("dest", section)))
