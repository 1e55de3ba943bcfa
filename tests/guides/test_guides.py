"""The guides, word for word, with services that go on reading and writing whenever they are up."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guides.guide import Operator
from tests.guides.service import Service
from tests.servers.moto import MotoServer
from tests.world import DB, World, s3


@pytest.fixture
def operator(folder: Path, database: str, moto: MotoServer) -> Iterator[Operator]:
    """At an archive in PostgreSQL, with services that run, who will edit dest-config.yaml to say S3."""
    world = World(folder, database)
    world.fill(40)
    world.config("config", DB)
    service = Service(world)
    service.start()
    service.work()
    edited = world.config("edited", s3(moto, f"archive-{uuid.uuid4().hex}"))
    yield Operator(world, service, {"dest-config.yaml": edited})
    service.stop()


def test_the_front_door(operator: Operator) -> None:
    operator.follow("README.md", "A real migration")
    operator.service.work()
    operator.service.stop()
    operator.service.check()
    assert all(url.startswith("db://") for url in operator.world.urls())


def test_seconds_of_downtime(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    """R1, and no orphan is left of documents that were overwritten or removed while they were staged."""
    operator.patient = False
    (operator.world.folder / "dest-config.yaml").write_text(operator.edits["dest-config.yaml"].read_text())
    shown = operator.follow("docs/downtime.md", "The runbook")
    operator.service.work()
    operator.service.stop()
    operator.service.check()
    downtime = re.search(r"downtime +(\d+ s.*)", shown)
    assert downtime, shown
    with capsys.disabled():
        print(f"\ndowntime of the runbook: {downtime[1]}")  # noqa: T201
    assert "orphans: 0" in shown
