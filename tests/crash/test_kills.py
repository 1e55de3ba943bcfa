"""R1, R2, R6: SIGKILL at every point; everything stays readable, and the same command finishes it.

Each test ends in the state of an undisturbed run, with no orphan on either side, and then undoes it: R5.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from reconcile.planning.planfile import undo_path
from reconcile.running.phases import copy_outcome, stage_part
from reconcile.stores.localfs import FileStore
from reconcile.stores.per_object import DocumentStore
from reconcile.stores.tables import TableStore
from tests.archives import Place
from tests.cli.runner import killed
from tests.crash.killer import NOT_IN_UNDO, ONLY_ON, POINTS
from tests.integration.test_equal_to_vendor import documents
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = 30


@frozen
class Route:
    """A prepared archive, and the configs that a move leads from and to."""

    world: World
    here: Place
    there: Place
    source: Path
    dest: Path

    def state(self) -> tuple[object, ...]:
        """Return all there is: tables and objects of both places."""
        return self.world.tables(), self.here.objects(), self.there.objects()


def db_to_s3(world: World, moto: MotoServer) -> Route:
    here, there = Place(world.folder, world.url, moto), Place(world.folder, world.url, moto)
    world.fill(DOCUMENTS)
    dest = world.config("dest", COMPRESSED | s3(moto, there.buckets[0]))
    return Route(world, here, there, world.config("config", DB), dest)


def s3_to_db2(world: World, moto: MotoServer) -> Route:
    route = db_to_s3(world, moto)
    world.apply(world.plan(route.source, route.dest, "setup.json"))
    world.sql("DROP TABLE reconcile_moves")
    world.sql("DROP TABLE reconcile_runs")
    return Route(world, route.there, route.here, route.dest, world.config("back", DB2))


def localfs_to_localfs(world: World, moto: MotoServer) -> Route:
    here, there = Place(world.folder, world.url, moto), Place(world.folder, world.url, moto)
    world.fill(DOCUMENTS)
    start, source = world.config("start", DB), world.config("config", localfs(here.data_dir))
    world.apply(world.plan(start, source, "setup.json"))
    world.sql("DROP TABLE reconcile_moves")
    world.sql("DROP TABLE reconcile_runs")
    return Route(world, here, there, source, world.config("dest", COMPRESSED | localfs(there.data_dir)))


def s3_to_s3(world: World, moto: MotoServer) -> Route:
    route = db_to_s3(world, moto)
    world.apply(world.plan(route.source, route.dest, "setup.json"))
    world.sql("DROP TABLE reconcile_moves")
    world.sql("DROP TABLE reconcile_runs")
    there = Place(world.folder, world.url, moto)
    dest = world.config("other", s3(moto, there.buckets[0]))
    return Route(world, route.there, there, route.dest, dest)


def split_to_single(world: World, moto: MotoServer) -> Route:
    here, there = Place(world.folder, world.url, moto), Place(world.folder, world.url, moto)
    world.fill(DOCUMENTS)
    start = world.config("start", DB)
    source = world.config("config", DB, s3(moto, here.buckets[0]))
    world.apply(world.plan(start, source, "setup.json"))
    world.sql("DROP TABLE reconcile_moves")
    world.sql("DROP TABLE reconcile_runs")
    return Route(world, here, there, source, world.config("dest", localfs(there.data_dir)))


ROUTES: dict[str, Callable[[World, MotoServer], Route]] = {
    function.__name__: function for function in (db_to_s3, s3_to_db2, s3_to_s3, localfs_to_localfs, split_to_single)
}
QUICK = {
    "db_to_s3": {
        *("moves half loaded", "batch read", "written, not recorded", "all staged", "undo plan half written"),
        *("inside the switch", "after the switch", "marked", "deleted, not recorded", "owner marks removed"),
    },
    "localfs_to_localfs": {"inside a shortcut", "taken aside", "aside, checked", "mark without its name"},
}


def cases(points: list[str]) -> list[object]:
    return [
        pytest.param(
            route, point, id=f"{route}-{point}", marks=[] if point in QUICK.get(route, ()) else [pytest.mark.matrix]
        )
        for route in ROUTES
        for point in points
        if route in ONLY_ON.get(point, ROUTES)
    ]


def assert_readable(route: Route, wanted: dict[tuple[str, ...], object]) -> None:
    """R1, R2: a service with the one config or with the other reads everything."""
    assert wanted in (documents(route.source), documents(route.dest))


CONFIRMED = "SELECT after_url FROM reconcile_moves WHERE state = 'staged'"


def record_writes(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that fills with the archiveIds of what stores are given to write from now on."""
    seen: set[str] = set()
    for store in (TableStore, DocumentStore, FileStore):

        def write(self: Any, writes: Any, original: Any = store.write) -> Any:
            seen.update(digests[item.md5] for item in writes if item.md5 in digests)
            return original(self, writes)

        monkeypatch.setattr(store, "write", write)
    original = copy_outcome.encoded

    def encoded(copy: Any, *rest: Any) -> Any:
        filled = original(copy, *rest)
        digests[filled.write.md5] = filled.work.move.archiveId
        return filled

    digests: dict[str, str] = {}
    monkeypatch.setattr(stage_part, "encoded", encoded)
    return seen


@pytest.fixture
def route(request: pytest.FixtureRequest, folder: Path, database: str, moto: MotoServer) -> Route:
    return ROUTES[request.param](World(folder, database), moto)


@pytest.mark.parametrize(("route", "point"), cases(list(POINTS)), indirect=["route"])
def test_killed_in_apply(route: Route, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, original = documents(route.source), route.state()
    plan = route.world.plan(route.source, route.dest)

    killed(point, "apply", plan.path, "--yes", "--workers", "2", cwd=route.world.folder)
    assert_readable(route, wanted)

    confirmed = {row[0] for row in route.world.sql(CONFIRMED)} if "loaded" not in point else set()
    written = record_writes(monkeypatch)
    outcome = route.world.apply(plan)
    monkeypatch.undo()
    assert not {move.after.content_url for move in plan.moves() if move.document[2] in written} & confirmed
    assert outcome.documents == plan.header.summary.moves.documents
    assert documents(route.dest) == wanted
    assert not route.here.objects()
    rows = route.world.sql("SELECT count(*) FROM archive_document") + route.world.sql(
        "SELECT count(*) FROM object_storage"
    )
    assert len(route.there.objects()) + rows[0][0] + rows[1][0] == DOCUMENTS

    assert not route.here.marks() + route.there.marks()

    route.world.undo(str(undo_path(plan.path)))
    assert route.state() == original
    assert not route.here.marks() + route.there.marks()


@pytest.mark.parametrize(
    ("route", "point"), cases([point for point in POINTS if point not in NOT_IN_UNDO]), indirect=["route"]
)
@pytest.mark.matrix
def test_killed_in_undo(route: Route, point: str) -> None:
    wanted, original = documents(route.source), route.state()
    plan = route.world.plan(route.source, route.dest)
    route.world.apply(plan)

    killed(point, "undo", undo_path(plan.path), "--yes", "--workers", "2", cwd=route.world.folder)
    assert_readable(route, wanted)

    route.world.undo(str(undo_path(plan.path)))
    assert documents(route.source) == wanted
    assert route.state() == original
    assert not route.here.marks() + route.there.marks()
