"""``plan --from-file``, ``--older-than``, ``--larger-than``: a part of the documents, wherever the scope counts."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.cli.desk import filled, planned, stage_only
from tests.cli.runner import Result, here
from tests.world import COMPRESSED, DB2, World

LISTED = ["admin/policy_bundles/one/two.json", "admin/policy_bundles/plain"]


@pytest.fixture
def lite(world: World) -> World:
    """With two documents more, one of whose ids has a slash."""
    filled(world)
    for name in ("one/two.json", "plain"):
        world.add(name, b"x" * 5000)
    return world


def plan(world: World, *options: str, out: str = "p.json") -> Result:
    return here("plan", "config.yaml", "dest.yaml", "--out", out, *options, cwd=world.folder)


def moves(world: World, out: str = "p.json") -> set[str]:
    data = json.loads(here("show", out, "--format", "json", "--moves", cwd=world.folder).out)
    return {f"{move['userId']}/{move['bucket']}/{move['archiveId']}" for move in data["moves"]}


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(["# mine", *LISTED, "", LISTED[0]]),
        json.dumps(LISTED),
        json.dumps([dict(zip(("userId", "bucket", "archiveId"), name.split("/", 2), strict=True)) for name in LISTED]),
    ],
)
def test_the_documents_of_a_list(lite: World, text: str) -> None:
    (lite.folder / "list").write_text(text)
    done = plan(lite, "--from-file", "list")
    assert done.code == 0, done.all
    assert moves(lite) == set(LISTED)
    assert f"only 2 documents listed in {lite.folder}/list" in " ".join(done.out.split())
    assert "could not read" in done.out  # the warning of every partial plan
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
    assert sorted(url.partition(":")[0] for url in lite.urls()).count("db2") == 2


def test_by_size_and_by_age(lite: World) -> None:
    lite.sql("""UPDATE archive_metadata SET created_at = 1000 WHERE "archiveId" = 'plain'""")
    assert plan(lite, "--larger-than", "4K").code == 0
    assert set(LISTED) <= moves(lite)
    assert plan(lite, "--larger-than", "4999", "--older-than", "2020-01-01", out="q.json").code == 0
    assert moves(lite, "q.json") == {LISTED[1]}
    assert "created before 2020-01-01 00:00:00 UTC; larger than 4.9 KiB" in here("show", "q.json", cwd=lite.folder).out
    assert plan(lite, "--older-than", "30d", out="all.json").code == 0
    assert len(moves(lite, "all.json")) == 8


def test_the_scope_counts_for_diff_for_refresh_and_for_the_switch(lite: World) -> None:
    """What services add outside of it is none of the plan's business; what they add inside is found (R4)."""
    assert plan(lite, "--larger-than", "4999").code == 0
    lite.add("small", b"y")
    assert "no document differs" in here("diff", "p.json", cwd=lite.folder).out
    lite.add("large", b"z" * 6000)
    assert "admin/policy_bundles/large" in here("diff", "p.json", cwd=lite.folder).out
    stale = here("apply", "p.json", "--yes", cwd=lite.folder)
    assert (stale.code, "large" in stale.err) == (4, True)
    command = next(line.strip() for line in stale.err.splitlines() if line.strip().startswith("reconcile plan"))
    words = shlex.split(command, comments=True)[1:]
    assert here(*words, "--out", "again.json", cwd=lite.folder).code == 0
    assert "admin/policy_bundles/large" in moves(lite, "again.json")
    assert "admin/policy_bundles/small" not in moves(lite, "again.json")
    assert here("apply", "p.json", "--yes", "--refresh", cwd=lite.folder).code == 0
    assert {url.rpartition("/")[2] for url in lite.urls() if url.startswith("db:")} >= {"small"}
    assert any(url == "db2://admin/policy_bundles/large" for url in lite.urls())


def test_diff_shows_what_a_listed_document_became(lite: World) -> None:
    (lite.folder / "list").write_text("\n".join(LISTED))
    assert plan(lite, "--from-file", "list").code == 0
    lite.sql("""DELETE FROM archive_metadata WHERE "archiveId" = 'plain'""")
    said = here("diff", "p.json", cwd=lite.folder)
    assert (said.code, "- admin/policy_bundles/plain" in said.out) == (0, True), said.all


def test_an_undo_with_changes_takes_back_what_was_compressed_below_the_size(lite: World) -> None:
    """R5: what a run moved is its own whatever size it has by now."""
    before = lite.tables()
    lite.config("dest", DB2 | COMPRESSED)
    assert plan(lite, "--larger-than", "4999").code == 0
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
    undone = here("undo", "p.undo.json", "--with-changes", "--yes", cwd=lite.folder)
    assert undone.code == 0, undone.all
    assert lite.tables()["archive_metadata"] == before["archive_metadata"]


def test_documents_without_a_date_or_a_size_are_in_no_such_filter(lite: World) -> None:
    lite.sql("""UPDATE archive_metadata SET created_at = NULL WHERE "archiveId" = 'plain'""")
    lite.sql("""UPDATE archive_metadata SET size = NULL WHERE "archiveId" = 'one/two.json'""")
    assert plan(lite, "--older-than", "1d").code == 0
    assert LISTED[1] not in moves(lite)
    assert plan(lite, "--larger-than", "0", out="q.json").code == 0
    assert LISTED[0] not in moves(lite, "q.json")


def test_what_is_staged_in_a_scope_is_resumed(lite: World) -> None:
    (lite.folder / "list").write_text("\n".join(LISTED))
    stage_only(lite, planned_list(lite))
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0


def planned_list(world: World):
    from reconcile.catalog import Scope

    return planned(world, scope=Scope(documents=tuple(LISTED), listed_in="list"))


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("admin/policy_bundles/none\n", ("--from-file", "list"), "the catalog does not have 1 document of it"),
        ("", ("--from-file", "list"), "names no document"),
        ("admin/plain\n", ("--from-file", "list"), "line 1: 'admin/plain' is not the name of a document"),
        ("[1]", ("--from-file", "list"), "item 1: '1' is not the name of a document"),
        ("[", ("--from-file", "list"), "is not JSON"),
        (
            '[{"userId": "b/c", "bucket": "odd", "archiveId": "x"}]',
            ("--from-file", "list"),
            "is not the name of a document",
        ),
        ("", ("--larger-than", "9223372036854775808"), "too large for a size in bytes"),
        ("\n".join(f"a/b/{n}" for n in range(10_001)), ("--from-file", "list"), "the limit is 10,000"),
        ("", ("--from-file", "nowhere"), "nowhere: the list cannot be read: No such file"),
        ("", ("--larger-than", "1G"), "no document matches"),
        ("", ("--older-than", "1970-01-02"), "no document matches"),
        ("", ("--older-than", "yesterday"), "not a number of days"),
        ("", ("--larger-than", "big"), "is not a size"),
    ],
)
def test_bad_input_saves_no_plan(world: World, text: str, options: tuple[str, ...], said: str) -> None:
    filled(world)
    (world.folder / "list").write_text(text)
    result = plan(world, *options)
    assert (result.code, said in result.err) == (64, True), result.err
    assert not (world.folder / "p.json").exists()
