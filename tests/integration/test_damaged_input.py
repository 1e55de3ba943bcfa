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
from reconcile.planning.planfile import open_plan
from tests.world import DB, World


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\x00garbage-garbage", b"{\n\xff\xfe\n"], ids=["gzip", "not UTF-8"])
def test_damaged_plan_files(folder: Path, content: bytes) -> None:
    path = folder / ("p.json.gz" if content.startswith(b"\x1f") else "p.json")
    path.write_bytes(content)
    with pytest.raises(PlanFileError):
        open_plan(path).verify()


def test_odd_config_values(lite: World) -> None:
    dest = lite.folder / "dest.yaml"
    dest.write_text("credentials: {database: text}\nservices: {catalog: {object_store: {}}}\n")
    assert verbs.load_config(dest).database is None
    url = {"bucket": "b", "access_key": "a-key", "secret_key": "s-key", "url": "http://h:abc"}
    section = {"storage_driver": {"name": "s3", "config": url}}
    lite.add("x", b"x")
    with pytest.raises((BackendError, ConfigError)):
        lite.apply(lite.plan(lite.config("config", DB), lite.config("dest", section)))
