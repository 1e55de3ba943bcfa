"""The guides, word for word, with services that go on reading and writing whenever they are up."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guides.guide import Operator
from tests.guides.service import Service
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, World, s3

MANAGER = "docs/coming-from-anchore-manager.md"


def bucket() -> str:
    return f"archive-{uuid.uuid4().hex}"


@pytest.fixture
def operator(folder: Path, database: str, moto: MotoServer) -> Iterator[Operator]:
    """At an archive in PostgreSQL, with services that run, who will edit dest-config.yaml to say S3."""
    world = World(folder, database)
    world.fill(40)
    world.config("config", DB)
    service = Service(world)
    service.start()
    service.work()
    operator = Operator(world, service)
    wants(operator, s3(moto, bucket(), prefix="internaltest", region=False) | COMPRESSED)
    yield operator
    service.stop()


def wants(operator: Operator, object_store: dict[str, Any], archive: dict[str, Any] | None = None) -> None:
    """Give an operator's dest-config.yaml its content."""
    operator.edits["dest-config.yaml"] = operator.world.config("edited", object_store, archive)


def connected(operator: Operator) -> None:
    """Name the database, as the guide does before its first section."""
    operator.follow(MANAGER, "Coming from anchore-manager")


def all_is_well(operator: Operator, *schemes: str) -> None:
    """Let the services work on; then every document must be what they wrote, at these drivers (R1)."""
    operator.service.work()
    operator.service.stop()
    operator.service.check()
    assert {url.partition(":")[0] for url in operator.world.urls()} == set(schemes)


def test_the_front_door(operator: Operator) -> None:
    operator.follow("README.md", "A real migration")
    all_is_well(operator, "db")


@pytest.mark.matrix
def test_seconds_of_downtime(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    """No orphan is left of documents that were overwritten or removed while they were staged (R3)."""
    operator.patient = False
    operator.edit("dest-config.yaml")
    shown = operator.follow("docs/downtime.md", "The runbook")
    all_is_well(operator, "s3")
    downtime = re.search(r"downtime +(\d+ s.*)", shown)
    assert downtime, shown
    with capsys.disabled():
        print(f"\ndowntime of the runbook: {downtime[1]}")  # noqa: T201
    assert "orphans: 0" in shown


@pytest.mark.matrix
def test_from_the_database_to_s3_and_back(operator: Operator) -> None:
    operator.edit("dest-config.yaml")
    operator.follow(MANAGER, "Coming from anchore-manager")
    operator.follow(MANAGER, "Testing a config")
    operator.follow(MANAGER, "From the database to S3, compressed")
    operator.service.work()
    assert "anchore-manager objectstorage list-migrations" in operator.follow(MANAGER, "Results")
    assert operator.world.sql("SELECT is_compressed FROM archive_metadata WHERE is_compressed")
    operator.follow(MANAGER, "Back")
    all_is_well(operator, "db")


@pytest.mark.matrix
def test_back_by_reversed_parameters(operator: Operator) -> None:
    connected(operator)
    operator.follow(MANAGER, "From the database to S3, compressed")
    operator.service.work()
    operator.follow(MANAGER, "Back by reversed parameters")
    all_is_well(operator, "db")


@pytest.mark.matrix
def test_without_deletion(operator: Operator) -> None:
    connected(operator)
    operator.edit("dest-config.yaml")
    operator.events["# days later, services up:"] = operator.service.work
    operator.follow(MANAGER, "Without deletion")
    assert operator.world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    all_is_well(operator, "s3")


@pytest.mark.matrix
def test_single_to_split_to_single(operator: Operator, moto: MotoServer) -> None:
    connected(operator)
    wants(operator, DB, s3(moto, bucket()))
    operator.edit("dest-config.yaml")
    operator.follow(MANAGER, "Single backend to split backend")
    operator.service.work()
    wants(operator, s3(moto, bucket()))
    operator.edit("dest-config.yaml")
    operator.follow(MANAGER, "Split backend to single backend")
    all_is_well(operator, "s3")


@pytest.mark.matrix
def test_the_tutorial(operator: Operator) -> None:
    shown = operator.follow("docs/first-migration.md", "On the example")
    assert "504 documents moved" in shown
    operator.follow("docs/first-migration.md", "On your own archive")
    all_is_well(operator, "db")


@pytest.mark.matrix
def test_undo_after_days(operator: Operator) -> None:
    connected(operator)
    operator.follow(MANAGER, "From the database to S3, compressed")
    operator.service.work(30)
    assert "rows have changed since the run" in operator.follow("docs/undo-after-days.md")
    all_is_well(operator, "db")


@pytest.mark.matrix
def test_split_and_join(operator: Operator, moto: MotoServer) -> None:
    wants(operator, DB, s3(moto, bucket()))
    operator.edit("dest-config.yaml")
    operator.follow("docs/split.md", "Split")
    assert {url.partition(":")[0] for url in operator.world.urls()} == {"db", "s3"}
    operator.service.work()
    operator.follow("docs/split.md", "Join")
    all_is_well(operator, "db")


@pytest.mark.matrix
@pytest.mark.parametrize("section", ["Change the S3 provider", "Under the same bucket name"])
def test_another_s3_provider(operator: Operator, moto: MotoServer, section: str) -> None:
    connected(operator)
    operator.follow(MANAGER, "From the database to S3, compressed")
    other, name = MotoServer(), bucket()
    if section == "Under the same bucket name":
        name = operator.world.urls()[0].split("/")[2]
    try:
        wants(operator, s3(other, name, prefix="internaltest"))
        operator.edit("dest-config.yaml")
        shown = operator.follow("docs/changing-s3-providers.md", section)
        assert ("keep their URL at" in shown) == (section == "Under the same bucket name")
        assert "orphans: 0" in shown
        all_is_well(operator, "s3")
    finally:
        operator.service.stop()
        other.close()


def test_going_on_after_a_crash(operator: Operator) -> None:
    operator.edit("dest-config.yaml")
    shown = operator.follow("docs/resume.md")
    assert "not running: no process holds the lock" in shown
    assert "orphans: 0" in shown
    all_is_well(operator, "s3")


@pytest.mark.matrix
def test_sources_cleaned_later(operator: Operator) -> None:
    operator.edit("dest-config.yaml")
    operator.events["# weeks later"] = operator.service.work
    shown = operator.follow("docs/cleaning-later.md")
    assert "orphans: 0" in shown
    assert operator.world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    all_is_well(operator, "s3")


@pytest.mark.matrix
def test_following_events(operator: Operator) -> None:
    shown = operator.follow("docs/events.md")
    assert '"event":"switched"' in shown
    all_is_well(operator, "s3")
