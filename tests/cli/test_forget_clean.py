"""Clean later and forget: what they delete, what they leave and say; and that an undo still works after a clean."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from reconcile.catalog.lock import run_lock
from tests.archives import md5, new_sqlite
from tests.cli.desk import filled, last_run, opened, planned, stage_only
from tests.cli.runner import Result, here, on_terminal
from tests.world import COMPRESSED, DB, DB2, World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def run(world: World, *arguments: str) -> Result:
    return here(*arguments, "--source", "config.yaml", cwd=world.folder)


def kept(world: World) -> str:
    """Move everything and keep the sources; return the run's id."""
    world.apply(planned(world, keep_source=True))
    return last_run(world)


def sources(world: World) -> list[str]:
    return sorted(row[0] for row in world.sql('SELECT "archiveId" FROM archive_document'))


def test_kept_sources_are_deleted_later_and_undo_still_works(world: World) -> None:
    """R5: the undo copies back from where the documents are now."""
    filled(world)
    dest = world.config("dest", COMPRESSED | localfs(world.folder / "archive"))
    tables, documents = world.tables(), world.read(world.folder / "config.yaml")
    run_id = kept(world)
    assert len(sources(world)) == 6
    result = run(world, "clean", run_id, "--yes")
    assert result.code == 0, result.all
    assert "6 sources deleted" in result.out
    assert f"reconcile undo {run_id} " in result.out
    assert sources(world) == []
    assert world.read(dest) == documents
    assert "sources deleted: 6" in run(world, "status").out
    assert "nothing to do" in run(world, "clean", run_id, "--yes").out
    assert world.apply("p.json").already == "the plan is applied already"
    world.undo()
    assert world.tables() == tables


def test_what_somebody_has_to_do_with_stays_and_is_said(lite: World) -> None:
    """R3: a row refers to it; it is no longer the content that was copied. Once that is over, it goes."""
    run_id = kept(lite)
    lite.row("sha256:0001", b"x", user="team-a", bucket="analysis_data", documentName="another row")
    text = lite.sql("""SELECT jsondata FROM archive_document WHERE "archiveId" = 'sha256:0002'""")[0][0]
    lite.sql("""UPDATE archive_document SET jsondata = 'other' WHERE "archiveId" = 'sha256:0002'""")
    result = run(lite, "clean", run_id, "--yes")
    assert "4 sources deleted" in result.out
    assert "1 stay: a catalog row refers to it" in result.out
    assert sources(lite) == ["sha256:0001", "sha256:0002"]
    lite.sql("""DELETE FROM archive_metadata WHERE "documentName" = 'another row'""")
    lite.sql("""UPDATE archive_document SET jsondata = %s WHERE "archiveId" = 'sha256:0002'""", text)
    assert "2 sources deleted" in run(lite, "clean", run_id, "--yes").out
    assert sources(lite) == []


def test_a_row_that_leads_back_meanwhile_keeps_its_source(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: services may run; one with the old config writes the document again while the clean is on its way."""
    from reconcile.running.phases.clean import Cleaner

    run_id = kept(lite)
    original = Cleaner._find_same_places

    def and_a_service_writes(self: Cleaner) -> None:
        original(self)
        url = "db://team-a/analysis_data/sha256:0001"
        lite.sql("""UPDATE archive_metadata SET content_url = %s WHERE "archiveId" = 'sha256:0001'""", url)

    monkeypatch.setattr(Cleaner, "_find_same_places", and_a_service_writes)
    result = run(lite, "clean", run_id, "--yes")
    assert "1 stay: its catalog row refers to it again" in result.out
    assert sources(lite) == ["sha256:0001"]


def test_what_only_the_source_can_give_back_stays(folder: Path) -> None:
    """R5: compressed by another zlib than ours."""
    world = World(folder, new_sqlite(folder))
    one = folder / "one"
    world.add("x", b"a document that is long enough " * 100)
    start, source = world.config("start", DB), world.config("config", COMPRESSED | localfs(one))
    world.apply(world.plan(start, source, "setup.json"))
    (file,) = one.rglob("*.json")
    packed = zlib.compress(b"a document that is long enough " * 100, 9)
    file.write_bytes(packed)
    world.sql("UPDATE archive_metadata SET digest = %s, size = %s", md5(packed), len(packed))
    world.config("dest", DB)
    run_id = kept(world)
    result = run(world, "clean", run_id, "--yes")
    assert result.code == 0
    assert "nothing to do: no source of the run is left that may be deleted" in result.out
    assert "1 stay: no copy can restore the source byte for byte" in result.out
    assert file.read_bytes() == packed
    world.undo()
    assert file.read_bytes() == packed


def test_a_document_that_kept_its_url_keeps_its_source(lite: World) -> None:
    run_id = kept(lite)
    lite.sql("UPDATE reconcile_moves SET after_url = before_url, keep = true WHERE seq = 0")
    result = run(lite, "clean", run_id, "--yes")
    assert "5 sources deleted" in result.out
    assert "1 stay: the document kept its URL" in result.out


def test_sources_that_a_later_run_has_to_do_with_are_its_own(lite: World) -> None:
    """R3, R5: there and, by another plan, on; the first run's sources are the second one's to judge."""
    first = kept(lite)
    lite.apply(lite.plan(lite.folder / "dest.yaml", lite.config("third", localfs(lite.folder / "archive")), "q.json"))
    result = run(lite, "clean", first, "--yes")
    assert "6 stay: a later run has to do with it" in result.out
    assert len(sources(lite)) == 6
    lite.undo("q.undo.json")
    assert "6 sources deleted" in run(lite, "clean", first, "--yes").out


def test_a_source_that_another_run_has_staged_stays(lite: World) -> None:
    """R3."""
    first = kept(lite)
    lite.sql("UPDATE archive_metadata SET last_updated = 5")
    stage_only(lite, lite.plan(lite.folder / "dest.yaml", lite.folder / "config.yaml", "q.json"))
    result = run(lite, "clean", first, "--yes")
    assert "6 stay: another run has staged it" in result.out
    assert len(sources(lite)) == 6


def test_runs_that_have_nothing_to_clean_say_what_to_type(lite: World) -> None:
    plan = planned(lite, keep_source=True)
    staged = stage_only(lite, plan)
    result = run(lite, "clean", staged, "--yes")
    assert (result.code, "is staging" in result.err, "reconcile apply" in result.err) == (1, True, True)
    lite.apply(plan)
    lite.undo()
    undone = run(lite, "clean", staged, "--yes")
    assert (undone.code, "is undone" in undone.err) == (1, True)
    undo = run(lite, "clean", last_run(lite), "--yes")
    assert (undo.code, "is an undo" in undo.err) == (1, True)
    assert run(lite, "clean", "no-such-run", "--yes").code == 1


def test_a_young_run_is_left_alone(lite: World) -> None:
    run_id = kept(lite)
    result = run(lite, "clean", run_id, "--yes", "--older-than", "7")
    assert (result.code, "ended 0 days ago, --older-than is 7" in result.out) == (0, True)
    lite.sql("UPDATE reconcile_runs SET finished_at = finished_at - 7 * 86400")
    assert "6 sources deleted" in run(lite, "clean", run_id, "--yes", "--older-than", "7").out


def test_the_runs_id_is_to_be_typed(lite: World) -> None:
    run_id = kept(lite)
    for verb in ("clean", "forget"):
        arguments = (verb, run_id, "--source", "config.yaml")
        nobody = run(lite, verb, run_id)
        assert (nobody.code, "give --yes" in nobody.err) == (64, True)
        wrong = on_terminal(*arguments, cwd=lite.folder, typed="yes\n")
        assert (wrong.code, "declined: nothing was changed" in wrong.err) == (13, True)
        assert len(sources(lite)) == (6 if verb == "clean" else 0)
        right = on_terminal(*arguments, cwd=lite.folder, typed=f"{run_id}\n")
        assert right.code == 0, right.all
    assert lite.sql("SELECT name FROM sqlite_master WHERE name LIKE 'reconcile%'") == []


def test_one_run_at_a_time(lite: World) -> None:
    run_id = kept(lite)
    with opened(lite) as catalog, run_lock(catalog, 0):
        for verb in ("clean", "forget"):
            assert run(lite, verb, run_id, "--yes", "--lock-wait", "0").code == 10
    assert len(sources(lite)) == 6


def test_a_forgotten_run_is_gone_with_its_undo_and_nothing_else(world: World) -> None:
    """R3: no document and no catalog row is touched; the last records take the work tables with them."""
    filled(world)
    first = kept(world)
    world.undo()
    undo = last_run(world)
    world.apply(planned(world, "q.json"))
    second, tables = last_run(world), world.tables()
    result = run(world, "forget", undo, "--yes")
    assert result.code == 0, result.all
    assert f"forgotten: {first}, {undo}" in result.out
    assert world.sql("SELECT DISTINCT run_id FROM reconcile_moves") == [(second,)]
    assert world.sql("SELECT run_id FROM reconcile_runs") == [(second,)]
    result = run(world, "forget", second, "--yes")
    assert f"run {second} can no longer be undone: its undo plan needs these records" in result.out
    assert "the work tables are removed too" in result.out
    assert "no run is recorded" in run(world, "status").out
    assert world.tables() == tables
    gone = here("undo", "q.undo.json", "--yes", cwd=world.folder)
    assert (gone.code, f"this database has no run {second}" in gone.err) == (1, True)
    assert world.tables() == tables
    again = world.plan(world.folder / "dest.yaml", world.folder / "config.yaml", "r.json")
    assert world.apply(again).documents == 6  # the tables are made anew


def test_kept_sources_that_become_nobodys_are_counted(lite: World) -> None:
    run_id = kept(lite)
    lite.row("sha256:0001", b"x", user="team-a", bucket="analysis_data", documentName="another row")
    for way in ("--dry-run", "--yes"):
        result = run(lite, "forget", run_id, way)
        assert "5 sources or copies without a catalog row will be orphans" in result.out
        assert (f"reconcile clean {run_id}" in result.out) == (way == "--dry-run")


def test_an_unfinished_run_is_not_forgotten(lite: World) -> None:
    """R6: its records are what it goes on from."""
    plan = planned(lite)
    run_id = stage_only(lite, plan)
    result = run(lite, "forget", run_id, "--yes")
    assert (result.code, "is not finished" in result.err, "reconcile apply" in result.err) == (1, True, True)
    assert lite.apply(plan).documents == 6


def test_what_only_the_records_tell_is_not_forgotten_by_mistake(lite: World) -> None:
    """Which of two endpoints holds a document whose URL did not change."""
    run_id = kept(lite)
    lite.sql("UPDATE reconcile_moves SET after_url = before_url WHERE seq < 2")
    result = run(lite, "forget", run_id, "--yes")
    assert (result.code, "2 documents kept their URL" in result.err, "--force" in result.err) == (1, True, True)
    assert run(lite, "forget", run_id, "--yes", "--force").code == 0


def test_a_plan_may_be_applied_again_after_an_undo_that_is_forgotten(lite: World) -> None:
    """R6."""
    plan = planned(lite)
    lite.apply(plan)
    first = last_run(lite)
    lite.undo()
    assert run(lite, "forget", first, "--yes").code == 0
    assert lite.apply(plan).documents == 6
    assert len(lite.read(lite.config("after", DB2))) == 6


def test_a_source_that_is_not_there_leaves_the_run_as_it_was(folder: Path) -> None:
    """The data dir is not mounted: nothing is recorded, and the run stays done."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    archive = folder / "archive"
    source = world.config("config", localfs(archive))
    world.apply(world.plan(world.config("start", DB), source, "setup.json"))
    world.config("dest", DB2)
    run_id = kept(world)
    archive.rename(folder / "elsewhere")
    result = run(world, "clean", run_id, "--yes")
    assert (result.code, "the data dir is not there" in result.err) == (1, True)
    assert "sources kept by policy: all" in run(world, "status", run_id).out
    (folder / "elsewhere").rename(archive)
    assert "6 sources deleted" in run(world, "clean", run_id, "--yes").out


def test_a_forgotten_plan_is_stale(lite: World) -> None:
    """R4: nobody knows that it was applied, and its rows are no longer as it saw them."""
    planned(lite)
    lite.apply("p.json")
    assert run(lite, "forget", last_run(lite), "--yes").code == 0
    tables = lite.tables()
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 4
    assert lite.tables() == tables
