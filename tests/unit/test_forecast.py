"""What a plan forecasts, against numbers worked out by hand from how a run works."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from reconcile.config.drivers import DRIVERS
from reconcile.config.validation import load_schema
from reconcile.errors import UsageError
from reconcile.planning import forecast as forecasting
from reconcile.planning.model import Duration, Forecast
from reconcile.planning.planfile import PlanFile, open_plan
from reconcile.planning.rates import read_rates
from reconcile.rendering.output import FORMS, rendered_plan
from reconcile.running.phases import clean, stage, switch
from reconcile.stores import objects
from reconcile.stores.request_costs import COSTS
from reconcile.stores.s3 import S3Store
from reconcile.stores.swift import SwiftStore
from tests.archives import connect, insert, md5, new_sqlite
from tests.cli.runner import reconcile
from tests.world import DB, DB2, NOW, PLAIN, World, localfs, s3, swift

SERVER = SimpleNamespace(
    url="http://127.0.0.1:9", auth_url="http://127.0.0.1:9/auth", access_key="access", secret_key="secret"
)
MIB = 1024**2


@pytest.fixture
def world(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def rows(world: World, count: int, size: int, url: str = "db://admin/b/{}", **more: Any) -> None:
    """Add catalog rows of so many bytes each; planning reads nothing else."""
    names = [f"{number:05}" for number in range(count)]
    connection = connect(world.url)
    insert(
        connection,
        "archive_metadata",
        [
            {"bucket": "b", "archiveId": name, "userId": "admin", "documentName": f"{name}.json"}
            | {"content_url": url.format(name), "is_compressed": False, "digest": md5(b""), "size": size}
            | {"created_at": NOW, "last_updated": NOW}
            | more
            for name in names
        ],
    )
    connection.commit()
    connection.close()


def forecast_of(plan: PlanFile) -> Forecast:
    forecast = plan.header.summary.forecast
    assert forecast is not None
    return forecast


def asked(forecast: Forecast) -> dict[str, dict[str, int]]:
    kinds = ("list", "look", "read", "write", "copy", "delete")
    return {r.backend: {k: n for k in kinds if (n := getattr(r, k))} for r in forecast.requests}


def planned(world: World, source: dict[str, Any], dest: dict[str, Any], **request: Any) -> Forecast:
    return forecast_of(world.plan(world.config("config", source), world.config("dest", dest), **request))


def test_batches_and_costs_are_those_of_phases_and_drivers() -> None:
    assert forecasting.STAGE_DOCUMENTS == stage.BATCH_DOCUMENTS
    assert forecasting.STAGE_BYTES == stage.MEMORY_BYTES // stage._BATCHES_IN_MEMORY
    assert forecasting.LOOK_DOCUMENTS == switch._LOOK_DOCUMENTS
    assert forecasting.CLEAN_DOCUMENTS == clean._PART_DOCUMENTS
    assert set(COSTS) == {driver.scheme for driver in DRIVERS.values()}
    assert COSTS["s3"].worth_listing == COSTS["swift"].worth_listing == objects._WORTH_LISTING
    assert COSTS["swift"].listing_may_lag is not SwiftStore.lists_at_once
    assert COSTS["s3"].listing_may_lag is not S3Store.lists_at_once


def test_from_tables_to_s3(world: World) -> None:
    """1,200 documents: 5 batches to stage, 2 to look at again, 3 to clean."""
    rows(world, 1200, 1000)
    forecast = planned(world, DB, s3(SERVER, "b"))
    assert asked(forecast) == {
        "source.object_store": {"read": 5, "look": 3, "delete": 3},
        "dest.object_store": {"list": 5 + 2, "write": 1200},
    }
    assert (forecast.bytes_to_read, forecast.bytes_to_write, forecast.bytes_by_server) == (1_200_000, 1_200_000, 0)
    assert forecast.space == {"dest.object_store": 1_200_000}
    assert forecast.work_tables == 1200 * 3300
    assert forecast.duration is None


def test_from_s3_to_swift(world: World) -> None:
    """Swift's listings are not trusted alone; kept sources are not looked at again."""
    rows(world, 600, 10, "s3://b/admin/b/{}")
    forecast = planned(world, s3(SERVER, "b"), swift(SERVER, "c"), keep_source=True)
    assert asked(forecast) == {
        "source.object_store": {"read": 600},
        "dest.object_store": {"list": 3 + 1, "look": 600, "write": 600},
    }
    forecast = planned(world, s3(SERVER, "b"), swift(SERVER, "c"), out="q.json")
    assert asked(forecast)["source.object_store"] == {"read": 600, "list": 2, "delete": 9}


def test_few_documents_are_asked_for_by_name(world: World) -> None:
    rows(world, 3, 10)
    assert asked(planned(world, DB, s3(SERVER, "b"))) == {
        "source.object_store": {"read": 1, "look": 1, "delete": 1},
        "dest.object_store": {"look": 3 + 3, "write": 3},
    }


def test_to_files_space_is_in_blocks_and_large_documents_make_small_batches(world: World) -> None:
    """Of five documents of 2 MiB two go into a batch of 4.8 MiB."""
    rows(world, 5, 2 * MIB + 1)
    forecast = planned(world, DB, localfs(world.folder / "archive"))
    assert asked(forecast) == {
        "source.object_store": {"read": 3, "look": 1, "delete": 1},
        "dest.object_store": {"look": 5 + 5, "write": 5},
    }
    assert forecast.space == {"dest.object_store": 5 * (2 * MIB + 4096)}


def test_stores_copy_between_themselves(world: World) -> None:
    """Same endpoint, same encoding, digest and size known, and not so small that asking costs more than copying."""
    rows(world, 18, MIB // 4, "s3://b/admin/b/{}")
    forecast = planned(world, s3(SERVER, "b"), s3(SERVER, "c"))
    assert asked(forecast) == {
        "source.object_store": {"look": 18, "list": 1, "delete": 1},
        "dest.object_store": {"list": 1 + 1, "look": 18, "copy": 18},
    }
    assert (forecast.bytes_to_read, forecast.bytes_to_write, forecast.bytes_by_server) == (0, 0, 18 * MIB // 4)
    elsewhere = s3(SERVER, "c", url="http://127.0.0.1:10")
    assert "copy" not in asked(planned(world, s3(SERVER, "b"), elsewhere, out="q.json"))["dest.object_store"]
    packed = s3(SERVER, "c") | {"compression": {"enabled": True, "min_size_kbytes": 0}}
    forecast = planned(world, s3(SERVER, "b"), packed, out="r.json")
    assert asked(forecast)["dest.object_store"] == {"list": 2, "write": 18}
    assert forecast.recoded == 18


def test_small_documents_are_read_and_written(world: World) -> None:
    rows(world, 300, 10, "s3://b/admin/b/{}")
    assert asked(planned(world, s3(SERVER, "b"), s3(SERVER, "c"))) == {
        "source.object_store": {"read": 300, "list": 1, "delete": 4},
        "dest.object_store": {"list": 2 + 1, "write": 300},
    }


def test_hard_links_unless_sources_are_kept(world: World) -> None:
    (world.folder / "old").mkdir()
    old = localfs(world.folder / "old")
    rows(world, 1, 10, f"file://{world.folder}/old/x.json")
    new = localfs(world.folder / "new")
    assert asked(planned(world, old, new))["dest.object_store"] == {"look": 2, "copy": 1}
    assert asked(planned(world, old, new, out="q.json", keep_source=True))["dest.object_store"] == {
        "look": 2,
        "write": 1,
    }


def test_within_the_database(folder: Path, database: str) -> None:
    """PostgreSQL copies from db to db2 by itself, a statement a batch."""
    world = World(folder, database)
    world.fill(6)
    assert asked(planned(world, DB, DB2)) == {
        "source.object_store": {"look": 1, "delete": 1},
        "dest.object_store": {"look": 1 + 1, "copy": 1},
    }


def test_rows_of_one_document_are_one_copy_and_adopted_ones_none(world: World) -> None:
    world.add("one", b"data")
    world.row("one", b"data", documentName="second")
    forecast = planned(world, DB, DB2)
    assert (forecast.bytes_to_read, forecast.bytes_to_write) == (4, 4)
    world.insert(
        "object_storage",
        {"userId": "admin", "bucket": "policy_bundles", "key": "one", "version": "", "content": b"data"},
    )
    forecast = planned(world, DB, DB2, out="q.json", probe="exists")
    assert (forecast.bytes_to_read, forecast.bytes_to_write) == (4, 0)
    assert asked(forecast)["dest.object_store"] == {"look": 2}


RATES = {
    "write_documents_per_second": 20,
    "read_documents_per_second": 50,
    "write_bytes_per_second": 500,
    "read_bytes_per_second": 1000,
    "delete_documents_per_second": 10,
}


def check(folder: Path, *stores: str, **rates: float) -> Path:
    path = folder / f"{len(stores)}.rates.json"
    backends = [
        {"role": "object_store", "driver": "db", "store": s, "ok": True, "rates": RATES | rates} for s in stores
    ]
    path.write_text(json.dumps({"format_version": "1.0", "backends": backends, "more": 1}))
    return path


def test_a_duration_rests_on_rates(world: World) -> None:
    """100 documents of 50 bytes: reading takes 2 + 5 s, writing 5 + 10 s, deleting 10 s; the two go on at once."""
    rows(world, 100, 50)
    path = check(world.folder, "database:db", "database:db2")
    forecast = planned(world, DB, DB2, rates=read_rates((path,)))
    assert isinstance(forecast.duration, Duration)
    assert (forecast.duration.stage, forecast.duration.clean) == (15, 10)
    assert forecast.duration.rests_on == [
        f"dest.object_store (database:db2): writes 20 documents/s, 0.0 MiB/s, by {path}",
        f"source.object_store (database:db): reads 50 documents/s, 0.0 MiB/s, deletes 10 documents/s, by {path}",
    ]


def test_without_all_rates_no_duration_is_made_up(world: World) -> None:
    rows(world, 100, 50)
    world.config("config", DB)
    world.config("dest", DB2)
    path = check(world.folder, "database:db")
    said = reconcile("plan", "config.yaml", "dest.yaml", "--rates", path, "--out", "p.json", cwd=world.folder).out
    assert "The given rates do not cover dest.object_store, so the duration is not forecast." in said
    assert "estimate:" not in said
    said = reconcile("plan", "config.yaml", "dest.yaml", "--out", "q.json", cwd=world.folder).out
    assert "The given rates" not in said


@pytest.mark.parametrize(
    "content", [None, "{", '{"format_version": "1.0"}', '{"format_version": "2.0", "backends": []}']
)
def test_what_is_no_rates(folder: Path, content: str | None) -> None:
    path = folder / "rates.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"--rates .*rates.json"):
        read_rates((path,))
    with pytest.raises(UsageError, match="not above zero"):
        read_rates((check(folder, "database:db", read_documents_per_second=0),))


def test_a_plan_without_a_forecast_is_readable(world: World) -> None:
    """Plans of versions that made none: read, shown and applied."""
    world.fill(6)
    plan = world.plan(world.config("config", DB), world.config("dest", PLAIN | DB2))
    lines = plan.path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith('"summary": '):
            summary = json.loads(line.removeprefix('"summary": ').rstrip(",\n"))
            del summary["forecast"]
            lines[number] = f'"summary": {json.dumps(summary)},\n'
    digest = hashlib.sha256("".join(lines[:-2]).encode()).hexdigest()
    plan.path.write_text("".join([*lines[:-2], f'"digest": "sha256:{digest}"\n', "}\n"]))
    old = open_plan(plan.path)
    assert old.header.summary.forecast is None
    for form in FORMS:
        assert "".join(rendered_plan(old, form))
    assert world.apply(old).documents == 6


def test_the_schema_knows_the_forecast(world: World) -> None:
    rows(world, 2, 50)
    world.plan(
        world.config("config", DB),
        world.config("dest", DB2),
        rates=read_rates((check(world.folder, "database:db", "database:db2"),)),
    )
    validator = jsonschema.Draft202012Validator(load_schema("plan.schema.json"))
    document = json.loads((world.folder / "p.json").read_text())
    assert list(validator.iter_errors(document)) == []
    assert document["summary"]["forecast"]["duration"]["rests_on"]
    document["summary"]["forecast"]["requests"][0]["read"] = -1
    assert list(validator.iter_errors(document))
