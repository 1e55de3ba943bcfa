"""R2: the stores asked by workers before anything moves: the plan is the one that one process makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconcile.auditing.probe_elsewhere import by_workers
from reconcile.engines import Engine
from reconcile.errors import ConfigError
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import PlanRequest
from reconcile.planning.planner import plan as make
from reconcile.planning.probe import Prober
from reconcile.running.record.place_record import is_same_place, place_digests
from tests.archives import new_sqlite
from tests.cli.desk import filled
from tests.cli.runner import here
from tests.engines.test_clean import TASKS, processes
from tests.world import DB, World, localfs

ENGINE = ("--engine", "processes:2")
DOCUMENTS = 40


@pytest.fixture
def archive(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """Documents in files, which are to go back to the table; a few of them are there already, or in the way."""
    world = World(folder, database)
    world.fill(DOCUMENTS)
    start, config = world.config("start", DB), world.config("config", localfs(folder / "archive"))
    world.config("dest", DB)
    world.apply(world.plan(start, config, "setup.json", keep_source=True))
    gone = """DELETE FROM archive_document WHERE "archiveId" > 'sha256:0009'"""
    world.sql(gone)
    world.sql("""UPDATE archive_document SET jsondata = 'other' WHERE "archiveId" = 'sha256:0003'""")
    files = sorted(path for path in (folder / "archive").rglob("*") if path.is_file() and "owner" not in path.name)
    files[20].unlink()
    files[30].write_bytes(b"damaged")
    monkeypatch.setattr("reconcile.auditing.audit_parts.PART_DOCUMENTS", 6)
    return world


def plan(world: World, name: str, engine: Engine | None = None, **more: Any) -> PlanFile:
    """Plan with a probe, by an engine if there is one."""
    if engine is not None:
        more["probing"] = by_workers(engine)
    request = PlanRequest(**{"probe": "digest", **more})
    return make(world.folder / "config.yaml", world.folder / "dest.yaml", None, request, world.folder / name)


def rows(found: PlanFile) -> list[Any]:
    return [*found.moves(), *found.blockers()]


@pytest.mark.parametrize("more", [{}, {"probe": "exists"}, {"overwrite": True}])
def test_the_plan_is_the_one_that_one_process_makes(archive: World, more: dict[str, Any]) -> None:
    engine = processes(archive, "reconcile.workers.worker:Worker")
    by_two, alone = plan(archive, "two.json", engine, **more), plan(archive, "one.json", **more)
    engine.close()
    assert rows(by_two) == rows(alone)
    assert by_two.header.summary == alone.header.summary
    actions = {move.action for move in by_two.moves()}
    assert "adopt" in actions
    assert ("overwrite" in actions) == bool(more.get("overwrite"))
    assert {blocker.reason for blocker in by_two.blockers()} >= {"source_missing"}
    for table in ("audit_parts", "probe_findings"):
        assert archive.sql(f"SELECT count(*) FROM reconcile_{table}") == [(0,)]


def test_the_command_line_says_how_far_it_is_and_plans_the_same(archive: World) -> None:
    configs = ("config.yaml", "dest.yaml", "--probe", "digest", "--format", "json")
    done = here("plan", *configs, "--out", "two.json", *ENGINE, cwd=archive.folder)
    alone = here("plan", *configs, "--out", "one.json", cwd=archive.folder)
    assert (done.code, alone.code) == (0, 0), done.all
    assert json.loads(done.out)["summary"] == json.loads(alone.out)["summary"]


def test_what_only_a_worker_does_not_find_blocks_nothing(archive: World) -> None:
    """A worker without the mount: the process that plans asks the stores itself."""
    engine = processes(archive, f"{TASKS}:sees_no_file")
    by_two = plan(archive, "two.json", engine)
    engine.close()
    assert rows(by_two) == rows(plan(archive, "one.json"))


@pytest.mark.parametrize("worker", ["has_no_data_dir", "has_another_data_dir"])
def test_what_a_worker_sees_elsewhere_says_nothing(
    worker: str, folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own empty destination is no free one: the process that plans asks about all of it."""
    monkeypatch.setattr("reconcile.auditing.audit_parts.PART_DOCUMENTS", 6)
    world = World(folder, database)
    world.fill(20)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    for move in [*plan(world, "zero.json", probe=None).moves()][::2]:
        path = Path(move.after.content_url.removeprefix("file://"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other")
    engine = processes(world, f"{TASKS}:{worker}")
    by_two = plan(world, "two.json", engine)
    engine.close()
    assert [blocker.reason for blocker in by_two.blockers()] == ["destination_occupied"] * 10
    assert rows(by_two) == rows(plan(world, "one.json"))


def test_sources_beside_the_configured_ones_are_probed_too(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents lie in a data dir that no config names any more, and a worker does not reach it."""
    monkeypatch.setattr("reconcile.auditing.audit_parts.PART_DOCUMENTS", 6)
    world = World(folder, database)
    world.fill(20)
    world.apply(world.plan(world.config("start", DB), world.config("old", localfs(folder / "archive")), "setup.json"))
    (folder / "new").mkdir()
    world.config("config", localfs(folder / "new"))
    world.config("dest", DB)
    for path in sorted(path for path in (folder / "archive").rglob("*") if path.is_file())[::2]:
        path.unlink()
    engine = processes(world, f"{TASKS}:has_no_data_dir")
    by_two = plan(world, "two.json", engine)
    engine.close()
    assert {blocker.reason for blocker in by_two.blockers()} == {"source_missing"}
    assert rows(by_two) == rows(plan(world, "one.json"))


def test_a_worker_that_is_killed_costs_nothing(archive: World) -> None:
    engine = processes(archive, f"{TASKS}:dies_of_its_first_part")
    by_two = plan(archive, "two.json", engine)
    engine.close()
    assert Path("died").exists()
    assert rows(by_two) == rows(plan(archive, "one.json"))


def test_a_row_that_a_service_changed_meanwhile_stays_as_it_was_planned(
    archive: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers found of it is of another document; the run finds the change as it stages."""
    asked = list[str]()
    settled = Prober.settled

    def noted(self: Prober, moves: list[Any]) -> Any:
        asked.extend(move.archiveId for move in moves)
        return settled(self, moves)

    class Late:
        """An engine whose first part comes after a service has written."""

        def __init__(self, engine: Engine) -> None:
            self.engine, self.name, self.late = engine, engine.name, True

        def width(self) -> int:
            return self.engine.width()

        def submit(self, message: Any) -> Any:
            if self.late:
                self.late = False
                archive.sql("""UPDATE archive_metadata SET size = 1 WHERE "archiveId" = 'sha256:0002'""")
            return self.engine.submit(message)

    monkeypatch.setattr(Prober, "settled", noted)
    engine = processes(archive, "reconcile.workers.worker:Worker")
    by_two = plan(archive, "two.json", Late(engine))  # type: ignore[arg-type]
    engine.close()
    (move,) = [move for move in by_two.moves() if move.archiveId == "sha256:0002"]
    assert (move.action, move.before.size == 1) == (None, False)
    assert asked
    assert "sha256:0002" not in asked


@pytest.mark.parametrize("device", [1, 2])
@pytest.mark.parametrize("filesystem", ["0", "7", "8"])
@pytest.mark.parametrize("inode", [5, 6])
def test_digests_of_places_agree_where_the_places_do(device: int, filesystem: str, inode: int) -> None:
    """What a worker compares is what a resumed run compares."""
    now = {"store": "a", "inode": inode, "device": device, "filesystem": filesystem}
    for known in ("0", "7"):
        then = {"store": "b", "inode": 5, "device": 1, "filesystem": known}
        agree = bool(set(place_digests(then)) & set(place_digests(now)))
        assert agree == is_same_place(then, now)
    servers = [{"store": "s3 at one"}, {"store": "s3 at another"}]
    assert place_digests(servers[0]) != place_digests(servers[1])


def test_a_worker_with_another_config_asks_nothing(archive: World) -> None:
    engine = processes(archive, "reconcile.workers.worker:Worker")
    archive.config("dest", localfs(archive.folder / "elsewhere"))
    request = PlanRequest(probe="exists", probing=by_workers(engine))
    other = archive.config("other", localfs(archive.folder / "third"))
    with pytest.raises(ConfigError, match="are not the plan's destination"):
        make(archive.folder / "config.yaml", other, None, request, archive.folder / "two.json")
    engine.close()
    assert not (archive.folder / "two.json").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [((), "without --probe"), (("--probe", "exists", "--limit", "3"), "the whole archive")],
)
def test_what_workers_have_no_part_in_is_refused(archive: World, more: tuple[str, ...], said: str) -> None:
    refused = here("plan", "config.yaml", "dest.yaml", "--out", "p.json", *more, *ENGINE, cwd=archive.folder)
    assert refused.code == 64, refused.all
    assert said in refused.err
    assert not (archive.folder / "p.json").exists()


def test_an_engine_that_is_set_for_all_commands_hinders_no_plan(archive: World) -> None:
    for name, more in (("p.json", ()), ("q.json", ("--probe", "exists", "--limit", "3"))):
        made = here(
            "plan", "config.yaml", "dest.yaml", "--out", name, *more, cwd=archive.folder, RECONCILE_ENGINE="no:1"
        )
        assert made.code == 0, made.all
    refused = here("plan", "config.yaml", "dest.yaml", "--probe", "exists", cwd=archive.folder, RECONCILE_ENGINE="no:1")
    assert refused.code == 64, refused.all


def test_sqlite_has_no_workers(folder: Path) -> None:
    world = filled(World(folder, new_sqlite(folder)))
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    refused = here("plan", "config.yaml", "dest.yaml", "--probe", "exists", *ENGINE, cwd=folder)
    assert (refused.code, "SQLite" in refused.err) == (64, True), refused.all
