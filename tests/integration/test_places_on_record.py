"""R1, R3: a data dir that is not mounted, or is another by now, is noticed before anything is deleted there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import PlaceChangedError
from reconcile.running import apply as applying
from reconcile.running.phases import context, switch
from reconcile.running.phases.clean_part import PartCleaner
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record.run import Run
from reconcile.running.record.work_moves import WorkMove
from tests.archives import Place, new_sqlite
from tests.cli.desk import last_run
from tests.cli.runner import here
from tests.servers.moto import MotoServer
from tests.world import DB, World, localfs, s3

DOCUMENTS = 12


@pytest.fixture
def lite(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(DOCUMENTS)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    return world


def unmount(world: World, name: str = "archive") -> None:
    """What a data dir looks like that was unmounted: the path is there, and leads to an empty directory."""
    path = world.folder / name
    path.rename(world.folder / f"{name}.mounted")
    path.mkdir()


def mount(world: World, name: str = "archive") -> None:
    path = world.folder / name
    for left in [path, *path.rglob("*")][::-1]:
        left.rmdir() if left.is_dir() else left.unlink()
    (world.folder / f"{name}.mounted").rename(path)


def test_a_data_dir_replaced_while_documents_are_staged_switches_nothing(
    lite: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``umount -l``: copies would lie in a directory that nobody finds once it is mounted again."""
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    truth, record = lite.read(lite.folder / "config.yaml"), PartStager._record
    done: list[object] = []

    def replaced(self: PartStager, outcomes: list[object]) -> None:
        record(self, outcomes)  # type: ignore[arg-type]
        if not done:
            done.append(True)
            unmount(lite)

    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 4)
    monkeypatch.setattr(PartStager, "_record", replaced)
    with pytest.raises(PlaceChangedError, match="leads to another directory") as error:
        lite.apply(plan, workers=1)
    assert error.value.exit_code == 5
    monkeypatch.undo()
    assert lite.read(lite.folder / "config.yaml") == truth
    mount(lite)
    lite.apply(plan)
    assert lite.read(lite.folder / "dest.yaml") == truth


def test_a_data_dir_replaced_just_before_the_switch_switches_nothing(
    lite: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    truth = lite.read(lite.folder / "config.yaml")
    original = switch.Switcher.recheck

    def replaced(self: switch.Switcher, stager: PartStager) -> None:
        original(self, stager)
        unmount(lite)

    monkeypatch.setattr(switch.Switcher, "recheck", replaced)
    with pytest.raises(PlaceChangedError):
        lite.apply(plan)
    assert lite.read(lite.folder / "config.yaml") == truth


def in_files(world: World, *, keep_source: bool) -> str:
    """Move the archive into a data dir, and from there to driver db; return the run's id."""
    world.apply(world.plan(world.folder / "config.yaml", world.folder / "dest.yaml", "in.json"))
    back = world.plan(world.folder / "dest.yaml", world.folder / "config.yaml", "out.json", keep_source=keep_source)
    world.apply(back)
    return last_run(world)


def clean(world: World, run: str) -> tuple[int, str]:
    arguments = ("--source", "dest.yaml", "--dest", "config.yaml", "--yes")
    result = here("clean", run, *arguments, cwd=world.folder)
    return result.code, result.all


def test_clean_deletes_nothing_while_the_data_dir_is_not_mounted(lite: World) -> None:
    """Missing does not count as deleted: mounted again, the same command deletes the sources."""
    run = in_files(lite, keep_source=True)
    unmount(lite)
    code, said = clean(lite, run)
    assert code == 5, said
    assert "if the data dir is not mounted" in said
    mount(lite)
    assert len(list((lite.folder / "archive").rglob("*.json"))) == DOCUMENTS
    code, said = clean(lite, run)
    assert (code, f"{DOCUMENTS} sources deleted" in said) == (0, True), said
    assert not list((lite.folder / "archive").rglob("*.json"))


def test_clean_deletes_nothing_once_the_destination_is_another(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is mounted while the copies are looked at, and no longer when the sources are to be deleted."""
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    original = PartCleaner._last_copies

    def replaced(self: PartCleaner, works: list[WorkMove]) -> set[int]:
        kept = original(self, works)
        unmount(lite)
        return kept

    monkeypatch.setattr(PartCleaner, "_last_copies", replaced)
    tables = lite.tables()["archive_document"]
    with pytest.raises(PlaceChangedError):
        lite.apply(plan, workers=1)
    assert lite.tables()["archive_document"] == tables
    monkeypatch.undo()
    mount(lite)
    lite.apply(plan)
    assert not lite.tables()["archive_document"]


def test_a_data_dir_that_was_restored_elsewhere_is_used_after_rebind(lite: World) -> None:
    """Another inode, the same files: as after a restore from a backup."""
    run = in_files(lite, keep_source=True)
    archive = lite.folder / "archive"
    subprocess.run(["cp", "-a", str(archive), str(lite.folder / "restored")], check=True)
    archive.rename(lite.folder / "lost")
    (lite.folder / "restored").rename(archive)
    assert clean(lite, run)[0] == 5
    bound = here("rebind", run, "--source", "dest.yaml", "--dest", "config.yaml", "--yes", cwd=lite.folder)
    assert bound.code == 0, bound.all
    code, said = clean(lite, run)
    assert code == 0, said


def test_an_undo_into_a_data_dir_that_is_not_mounted_is_refused(lite: World) -> None:
    run = in_files(lite, keep_source=False)
    truth = lite.read(lite.folder / "config.yaml")
    unmount(lite)
    result = here("undo", run, "--source", "config.yaml", "--dest", "dest.yaml", "--yes", cwd=lite.folder)
    assert result.code == 5, result.all
    assert lite.read(lite.folder / "config.yaml") == truth
    mount(lite)
    result = here("undo", run, "--source", "config.yaml", "--dest", "dest.yaml", "--yes", cwd=lite.folder)
    assert result.code == 0, result.all
    assert lite.read(lite.folder / "dest.yaml") == truth


def test_a_place_that_carries_the_run_s_mark_may_have_another_device_number(lite: World) -> None:
    """A remount changes it, and the mark tells that it is the same one."""
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    lite.apply(plan, stage_only=True)
    device = """details = replace(details, '"device":', '"device":9'), store = 'directory:9:9'"""
    lite.sql(f"UPDATE reconcile_places SET {device} WHERE name = 'dest.object_store'")
    lite.sql('UPDATE reconcile_places SET details = replace(details, \'"filesystem":"\', \'"filesystem":"9\')')
    lite.sql("UPDATE reconcile_moves SET dest_store = 'directory:9:9'")
    assert lite.apply(plan).documents == DOCUMENTS


def test_another_server_behind_the_same_name_loses_no_source(lite: World, moto: MotoServer) -> None:
    """The mark that the run wrote is not there: whatever answers, nothing is deleted."""
    place = Place(lite.folder, lite.url, moto)
    bucket = lite.config("bucket", s3(moto, place.buckets[0]))
    lite.apply(lite.plan(lite.folder / "config.yaml", bucket, "in.json"))
    plan = lite.plan(bucket, lite.folder / "config.yaml", "out.json")
    lite.apply(plan, stage_only=True)
    place.client().delete_object(Bucket=place.buckets[0], Key="reconcile-owner")
    with pytest.raises(PlaceChangedError, match="another server may be answering at that name") as error:
        lite.apply(plan)
    assert "reconcile rebind" in (error.value.hint or "")
    assert len(place.objects()) == DOCUMENTS
    assert all(isinstance(data, bytes) for data in lite.read(lite.folder / "config.yaml").values())
    bound = here("rebind", last_run(lite), "--source", "bucket.yaml", "--dest", "config.yaml", "--yes", cwd=lite.folder)
    assert bound.code == 0, bound.all
    lite.apply(plan)
    assert not place.objects()


def test_marks_stand_where_services_allow_them_and_go_with_the_run(lite: World) -> None:
    """At the top of a data dir services start only beside folders named by 32 hex digits."""
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    lite.apply(plan, stage_only=True)
    names = {path.name for path in (lite.folder / "archive").iterdir()}
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names), names
    assert list((lite.folder / "archive").rglob(".owner"))
    lite.apply(plan)
    assert not list((lite.folder / "archive").rglob(".owner"))
    lite.undo()
    assert not list((lite.folder / "archive").iterdir())


@pytest.mark.parametrize("kind", ["localfs", "s3"])
def test_marks_are_no_orphans(lite: World, moto: MotoServer, kind: str) -> None:
    section = s3(moto, Place(lite.folder, "", None).buckets[0]) if kind == "s3" else localfs(lite.folder / "archive")
    dest = lite.config("dest", section)
    lite.apply(lite.plan(lite.folder / "config.yaml", dest), stage_only=True)
    found = here("verify", "--orphans", dest, "--format", "json", cwd=lite.folder)
    assert '"listed":[]' in found.out, found.out


def test_nothing_is_written_where_sources_are_kept(lite: World) -> None:
    """Nothing is deleted there, so no mark is wanted: it may be read-only."""
    lite.apply(lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml", "in.json"))
    before = set((lite.folder / "archive").rglob("*"))
    lite.apply(lite.plan(lite.folder / "dest.yaml", lite.folder / "config.yaml", "out.json", keep_source=True))
    assert set((lite.folder / "archive").rglob("*")) == before


def test_a_run_opens_each_store_once(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a place was seen to be at first is what it has to be to the end."""
    opened: list[str] = []
    make = context.open_store
    monkeypatch.setattr(context, "open_store", lambda b, *rest: (opened.append(b.driver), make(b, *rest))[1])
    lite.apply(lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml"))
    assert sorted(opened) == ["db", "localfs"]
    opened.clear()
    lite.undo()
    assert sorted(opened) == ["db", "localfs"]


def test_a_data_dir_replaced_while_the_plan_is_loaded_stages_nothing(
    lite: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory that was made ready is the one that copies go to, or none."""
    (lite.folder / "archive").mkdir()
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    before, begin = lite.tables(), applying.begin

    def replaced(*args: Any, **more: Any) -> Run:
        unmount(lite)
        return begin(*args, **more)

    monkeypatch.setattr(applying, "begin", replaced)
    with pytest.raises(PlaceChangedError, match="another directory than when this run opened it"):
        lite.apply(plan)
    assert lite.tables() == before
    assert not list((lite.folder / "archive").iterdir())
    mount(lite)
    lite.apply(plan)
    lite.undo()
    assert lite.tables() == before
