"""Bad input gets a clear error, the right exit code, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconcile.cli import apply as _apply  # noqa: F401 - loaded before a test gives its rights away
from reconcile.cli.main import main
from reconcile.running.record.tables import WORK
from reconcile.stores import localfs as _localfs  # noqa: F401 - likewise
from tests.archives import Place, new_sqlite
from tests.cli.runner import Result, here
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3


@pytest.fixture
def small(folder: Path) -> World:
    """A filled archive on SQLite, with config.yaml (db) and dest.yaml (db2)."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def refused(world: World, result: Result, code: int, *said: str) -> None:
    """Check exit code and message, and that no traceback shows."""
    assert result.code == code, result.all
    for text in said:
        assert text in result.err, result.err
    assert "error: " in result.err
    assert "Traceback" not in result.all


def plan(world: World, **environment: str) -> Result:
    return here("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=world.folder, **environment)


BAD_CONFIGS: dict[str, tuple[Any, str]] = {
    "not yaml": ("a: [", "not YAML, line 1"),
    "a list": ("- a", "a list"),
    "empty": ("", "nothing"),
    "no services": ({"a": 1}, "services: found nothing"),
    "no catalog": ({"services": {"apiext": {}}}, "services.catalog: found nothing"),
    "unknown driver": (
        {"storage_driver": {"name": "tape"}},
        "services.catalog.object_store.storage_driver.name: found 'tape', expected one of db, db2, localfs, s3, swift",
    ),
    "no data dir": (
        {"storage_driver": {"name": "localfs", "config": {}}},
        "storage_driver.config: found no key 'archive_data_dir'",
    ),
    "no bucket": ({"storage_driver": {"name": "s3", "config": {"iamauto": True}}}, "found no key 'bucket'"),
    "relative data dir": (localfs(Path("relative")), "found 'relative', expected an absolute path"),
    "data dir with hash": (localfs(Path("/srv/a#b")), "found '#' in the path"),
    "text for a mapping": ({"storage_driver": "s3"}, "storage_driver: found a value of type str, expected"),
    "text for a number": (
        DB2 | {"compression": {"enabled": True, "min_size_kbytes": "100"}},
        "compression.min_size_kbytes: found text, expected a number of KiB: the services could not write any document",
    ),
    "s3 with url false": (
        {"storage_driver": {"name": "s3", "config": {"bucket": "b", "iamauto": True, "url": False}}},
        "the services refuse to start",
    ),
    "s3 with region null": (
        {"storage_driver": {"name": "s3", "config": {"bucket": "b", "iamauto": True, "region": None}}},
        "the services refuse to start",
    ),
    "s3 without keys": ({"storage_driver": {"name": "s3", "config": {"bucket": "b"}}}, "found no credentials"),
    "unset variable": (
        {"storage_driver": {"name": "localfs", "config": {"archive_data_dir": "${ANCHORE_NOT_SET}"}}},
        "environment variable ANCHORE_NOT_SET is not set",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(small: World, case: str) -> None:
    content, said = BAD_CONFIGS[case]
    if isinstance(content, dict) and "services" not in content and "a" not in content:
        content = {"services": {"catalog": {"object_store": content}}}
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (small.folder / "dest.yaml").write_text(text)
    result = plan(small)
    refused(small, result, 78, "dest.yaml", said)
    assert not (small.folder / "p.json").exists()


def test_analysis_archive_gets_no_defaults(small: World) -> None:
    catalog = {"object_store": DB, "analysis_archive": {"enabled": True}}
    (small.folder / "dest.yaml").write_text(yaml.safe_dump({"services": {"catalog": catalog}}))
    refused(small, plan(small), 78, "analysis_archive: found no 'storage_driver'")


def test_missing_config(small: World) -> None:
    (small.folder / "dest.yaml").unlink()
    refused(small, plan(small), 78, "dest.yaml: no such config file")


def test_a_config_that_has_gone_since_the_plan(small: World) -> None:
    assert plan(small).code == 0
    (small.folder / "dest.yaml").rename(small.folder / "moved.yaml")
    result = here("apply", "p.json", "--yes", cwd=small.folder)
    refused(small, result, 78, "it was the plan's dest config", "the same command with --dest FILE")
    assert here("apply", "p.json", "--yes", "--dest", "moved.yaml", cwd=small.folder).code == 0


@pytest.mark.parametrize("verb", ["migrate", "list-migrations", "list-drivers", "objectstorage"])
def test_verbs_of_the_vendors_are_known_by_name(small: World, verb: str) -> None:
    refused(small, here(verb, "a", cwd=small.folder), 64, f"unknown command {verb}", "next: reconcile ")


def test_the_wrong_config_is_suspected_where_all_is_wrong(small: World) -> None:
    result = here("verify", "dest.yaml", cwd=small.folder)
    refused(
        small, result, 5, "6 of 6 documents missing or wrong", "that dest.yaml is the config that the services have now"
    )


def test_usage(small: World) -> None:
    folder = small.folder
    refused(small, here("plan", "config.yaml", cwd=folder), 64, "Missing argument 'DEST'")
    refused(small, here("frobnicate", cwd=folder), 64, "unknown command frobnicate", "reconcile --help")
    refused(small, here("plan", "--workers", "x", cwd=folder), 64, "--workers")
    result = here("plan", "config.yaml", "dest.yaml", "--bucket", "no_such", cwd=folder)
    refused(small, result, 64, "--bucket no_such: the catalog has no document with it", "policy_bundles")
    result = here("plan", "config.yaml", "dest.yaml", "--user", "nobody", cwd=folder)
    refused(small, result, 64, "--user nobody", "admin, team-a")
    assert not (folder / "plans").exists()


def test_nobody_to_ask(small: World) -> None:
    plan(small)
    tables = small.tables()
    refused(small, here("apply", "p.json", cwd=small.folder), 64, "--yes")
    assert small.tables() == tables


def test_a_plan_is_not_overwritten(small: World) -> None:
    plan(small)
    text = (small.folder / "p.json").read_text()
    refused(small, plan(small), 64, "exists already")
    assert (small.folder / "p.json").read_text() == text


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "no such plan file"),
        (lambda path: path.write_text("hello"), "not a plan"),
        (lambda path: path.write_text("{\n}\n"), "the plan is incomplete"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "incomplete"),
        (lambda path: edit(path, "sha256:0001", "sha256:0009"), "changed after it was made"),
        (lambda path: edit(path, '"keep_source":false', '"keep_source":true'), "changed after it was made"),
        (lambda path: edit(path, '"format_version": "1.0"', '"format_version": "2.0"'), "format 2.0"),
        (lambda path: edit(path, '"format_version": "1.0"', '"format_version": 1'), "no format_version"),
    ],
    ids=["missing", "not json", "empty", "truncated", "a move edited", "policy edited", "newer", "no version"],
)
@pytest.mark.parametrize("verb", ["show", "apply"])
def test_bad_plan_file(small: World, damage: Any, said: str, verb: str) -> None:
    plan(small)
    damage(small.folder / "p.json")
    tables = small.tables()
    result = here(verb, "p.json", *(["--yes"] if verb == "apply" else []), cwd=small.folder)
    refused(small, result, 1, "p.json", said)
    assert small.tables() == tables


def test_a_plan_for_another_database(small: World) -> None:
    plan(small)
    shutil.copy(small.folder / "anchore.db", small.folder / "other.db")
    url = f"sqlite:///{small.folder}/other.db"
    result = here("apply", "p.json", "--yes", "--db-connect", url, cwd=small.folder)
    refused(small, result, 1, "another database")


def test_a_config_that_changed_since_the_plan(small: World) -> None:
    plan(small)
    (small.folder / "dest.yaml").rename(small.folder / "kept.yaml")
    small.config("dest", localfs(small.folder / "archive"))
    result = here("apply", "p.json", "--yes", cwd=small.folder)
    refused(small, result, 78, "not the dest config that the plan was made with", "--dest FILE")
    assert here("apply", "p.json", "--yes", "--dest", "kept.yaml", cwd=small.folder).code == 0


def test_a_forged_plan_is_refused(small: World) -> None:
    """R4: a digest made anew does not help; every move is worked out again from row and config."""
    import hashlib

    plan(small)
    path = small.folder / "p.json"
    edit(path, '"content_url":"db2://team-a/', '"content_url":"db2://admin/')
    body, _mark, _rest = path.read_bytes().partition(b'"digest": ')
    path.write_bytes(body + f'"digest": "sha256:{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode())
    tables = small.tables()
    refused(small, here("apply", "p.json", "--yes", cwd=small.folder), 1, "does not follow from the configs")
    assert small.tables() == tables
    assert small.sql("SELECT count(*) FROM reconcile_runs") == [(0,)]


def test_databases_that_cannot_be_used(small: World, postgresql: PostgresServer) -> None:
    folder = small.folder
    for url, code, said in (
        ("postgresql://nobody:secretpassword@127.0.0.1:9/anchore", 1, "cannot connect"),
        (postgresql.url("no_such_database"), 1, 'database "no_such_database" does not exist'),
        (postgresql.url("postgres"), 1, "no table archive_metadata"),
        ("sqlite:////no/such/file.db", 1, "no such SQLite database"),
        ("mysql://u:secretpassword@h/d", 78, "begins with mysql"),
        ("postgresql://u:x@y/secretpassword@z", 78, "percent-encode special characters"),
        ("postgresql://u:secretpassword@h:port/d", 78, "cannot be parsed"),
    ):
        result = plan(small, RECONCILE_DB_CONNECT=url, RECONCILE_DB_RETRIES="1", RECONCILE_DB_CONNECT_TIMEOUT="2")
        refused(small, result, code, said)
        assert "secretpassword" not in result.all
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["credentials"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    refused(small, plan(small), 78, "no database is given", "RECONCILE_DB_CONNECT")


def test_rights_that_lack_are_named(folder: Path, database: str, postgresql: PostgresServer) -> None:
    world = World(folder, database)
    world.fill(3)
    name = database.rpartition("/")[2]
    postgresql.run(name, "DROP ROLE IF EXISTS reader")
    postgresql.run(name, "CREATE ROLE reader LOGIN")
    postgresql.run(name, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    postgresql.run(name, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    reader = World(folder, postgresql.url(name, "reader"))
    reader.config("config", DB)
    reader.config("dest", DB2)
    postgresql.run(name, "REVOKE SELECT ON services FROM reader")
    postgresql.run(name, f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")  # not needed
    planned = plan(reader)
    assert planned.code == 0
    result = here("apply", "p.json", "--yes", cwd=folder)
    refused(reader, result, 1, "the database role reader lacks privileges: UPDATE on archive_metadata; INSERT, DELETE")
    grants = re.search(r"have the owner of the tables run: (.*)", result.err)
    assert grants is not None
    assert grants[1] in planned.err
    assert "GRANT SELECT ON services TO reader; GRANT INSERT ON tasks TO reader;" in grants[1]
    postgresql.run(name, grants[1])
    assert here("apply", "p.json", "--yes", cwd=folder).code == 0  # nothing was forgotten
    postgresql.run(name, "REVOKE INSERT ON archive_document FROM reader")
    refused_undo = here("undo", "p.undo.json", "--yes", cwd=folder)
    refused(reader, refused_undo, 1, "lacks privileges: INSERT on archive_document", "GRANT INSERT ON archive_document")
    postgresql.run(name, "DROP OWNED BY reader; DROP ROLE reader")


def test_work_tables_that_another_role_made(folder: Path, database: str, postgresql: PostgresServer) -> None:
    """One list for all of them; and a verb that only reads asks for no more than that."""
    world = World(folder, database)
    world.fill(3)
    world.config("config", DB)
    world.config("dest", DB2)
    assert plan(world).code == 0
    assert here("apply", "p.json", "--yes", "--stage-only", cwd=folder).code == 0
    name = database.rpartition("/")[2]
    postgresql.run(name, 'DROP ROLE IF EXISTS "on-call"')
    postgresql.run(name, 'CREATE ROLE "on-call" LOGIN; GRANT SELECT ON archive_metadata TO "on-call"')
    other = World(folder, postgresql.url(name, "on-call"))
    other.config("config", DB)
    other.config("dest", DB2)
    status = here("status", "--source", "config.yaml", cwd=folder)
    refused(other, status, 1, 'GRANT SELECT ON reconcile_runs TO "on-call";')
    assert "INSERT" not in status.err
    postgresql.run(name, 'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "on-call"')
    apply = here("apply", "p.json", "--yes", cwd=folder)
    refused(other, apply, 1, *(f"INSERT, UPDATE, DELETE ON {table}" for table in WORK.tables))
    postgresql.run(name, 'DROP OWNED BY "on-call"; DROP ROLE "on-call"')


def test_stores_that_cannot_be_used(small: World, moto: MotoServer, swift: SwiftServer) -> None:
    folder = small.folder
    cases = [
        (s3(moto, "not-there-at-all", create_bucket=False), "the bucket is not there"),
        (s3(swift, "any", secret_key="wrong"), "access denied"),
        (s3(moto, "any", url="http://127.0.0.1:9"), "no answer"),
        (localfs(Path("/no/such/parent/archive")), "the data dir is not there"),
    ]
    for number, (section, said) in enumerate(cases):
        small.config("dest", section)
        assert here("plan", "config.yaml", "dest.yaml", "--out", f"{number}.json", cwd=folder).code == 0
        tables = small.tables()
        result = here("apply", f"{number}.json", "--yes", cwd=folder)
        refused(small, result, 1, said)
        assert small.tables() == tables


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_data_dir_that_cannot_be_written(small: World) -> None:
    archive = small.folder / "archive"
    archive.mkdir(mode=0o555)
    small.config("dest", localfs(archive))
    small.plan(small.folder / "config.yaml", small.folder / "dest.yaml")  # in this process: loads what it needs
    for path in (small.folder, *small.folder.glob("*.*")):
        path.chmod(0o777)
    for parent in small.folder.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)
    messages = small.folder / "messages"
    child = os.fork()
    if child == 0:  # the interpreter itself may be out of the other user's reach: no exec
        sys.stderr = messages.open("w", buffering=1)
        os.setgid(65534)
        os.setuid(65534)
        sys.argv = ["reconcile", "apply", "p.json", "--yes"]
        try:
            main()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "cannot be written by this user" in messages.read_text()


def test_documents_that_cannot_be_staged(small: World) -> None:
    """R7: each is named with its reason."""
    small.sql("""DELETE FROM archive_document WHERE "archiveId" = 'sha256:0001'""")
    small.sql("""UPDATE archive_document SET jsondata = 'x' WHERE "archiveId" = 'sha256:0002'""")
    small.sql("""UPDATE archive_document SET b64_encoded = 1, jsondata = 'x' WHERE "archiveId" = 'sha256:0003'""")
    plan(small)
    tables = small.tables()
    result = here("apply", "p.json", "--yes", cwd=small.folder)
    refused(
        small,
        result,
        1,
        "3 documents could not be staged, so nothing was switched (3 are staged",
        "sha256:0001: source_missing",
        "sha256:0002: wrong_digest",
        "sha256:0003: undecodable",
        "--leave-failed",
    )
    assert small.tables()["archive_metadata"] == tables["archive_metadata"]
    status = here("status", "--source", "config.yaml", cwd=small.folder)
    assert "failed   3 documents" in status.out
    assert "reconcile apply" in status.out
    assert here("apply", "p.json", "--yes", "--leave-failed", cwd=small.folder).code == 3


def test_all_documents_of_a_store_missing(small: World) -> None:
    archive = small.folder / "archive"
    small.config("files", localfs(archive))
    small.apply(small.plan(small.folder / "config.yaml", small.folder / "files.yaml", "first.json"))
    archive.rename(small.folder / "elsewhere")
    archive.mkdir()
    result = here("plan", "files.yaml", "dest.yaml", "--out", "p.json", cwd=small.folder)
    assert result.code == 0
    result = here("apply", "p.json", "--yes", cwd=small.folder)
    refused(
        small, result, 1, "none of the first 6 documents", "check that the data dir is mounted at the same path here"
    )


def test_undo_of_what_does_not_exist(small: World) -> None:
    refused(small, here("undo", "no-such-run", "--source", "config.yaml", "--yes", cwd=small.folder), 1, "no run")
    refused(small, here("undo", "p.undo.json", "--yes", cwd=small.folder), 1, "no such plan file")
    plan(small)
    refused(small, here("undo", "p.json", "--yes", cwd=small.folder), 1, "not an undo plan")


def test_undo_when_the_config_was_overwritten_as_the_vendors_guide_does(small: World) -> None:
    """The config of before is found under its other name; without a credential in it, in the plan itself (R6)."""
    folder = small.folder
    plan(small)
    for keep in (True, False):
        assert here("apply", "p.json", "--yes", cwd=folder).code == 0
        before = (folder / "config.yaml").read_text()
        if keep:
            (folder / "config.old.yaml").write_text(before)
        shutil.copy(folder / "dest.yaml", folder / "config.yaml")
        assert here("apply", "p.json", "--yes", cwd=folder).code == 0  # applied already
        assert here("undo", "p.undo.json", "--yes", cwd=folder).code == 0
        (folder / "config.yaml").write_text(before)
        (folder / "config.old.yaml").unlink(missing_ok=True)


def test_a_config_that_was_changed_before_the_switch_is_refused(small: World) -> None:
    plan(small)
    shutil.copy(small.folder / "dest.yaml", small.folder / "config.yaml")
    result = here("apply", "p.json", "--yes", cwd=small.folder)
    refused(small, result, 78, "config.yaml: this is not the source config", "--source FILE")


def test_a_forged_undo_plan_is_refused(small: World) -> None:
    import hashlib

    plan(small)
    assert here("apply", "p.json", "--yes", cwd=small.folder).code == 0
    path = small.folder / "p.undo.json"
    edit(path, '"pinned":{"is_compressed":false', '"pinned":{"is_compressed":true')
    body, _mark, _rest = path.read_bytes().partition(b'"digest": ')
    path.write_bytes(body + f'"digest": "sha256:{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode())
    tables = small.tables()
    refused(small, here("undo", "p.undo.json", "--yes", cwd=small.folder), 1, "not the reverse")
    assert small.tables() == tables


def test_blocked_documents_need_a_flag(small: World) -> None:
    small.row("nowhere", b"x", content_url=None)
    small.row("tape", b"x", content_url="tape://a/b/c")
    result = plan(small)
    assert result.code == 0
    assert re.search(r"blocked\s+2 documents", result.out)
    refused(small, here("apply", "p.json", "--yes", cwd=small.folder), 1, "2 blocked documents", "--leave-blocked")
    result = here("apply", "p.json", "--yes", "--leave-blocked", cwd=small.folder)
    assert result.code == 3
    assert "2 documents stay where they were" in result.out


def test_plan_and_show_say_the_same(small: World) -> None:
    saved = plan(small)
    shown = here("show", "p.json", cwd=small.folder)
    assert shown.code == 0
    assert shown.out.strip() in saved.out
    data = json.loads(here("show", "p.json", "--format", "json", "--moves", cwd=small.folder).out)
    assert len(data["moves"]) == data["summary"]["moves"]["documents"] == 6
    result = here(
        "plan",
        "config.yaml",
        "dest.yaml",
        "--out",
        "q.json",
        "--detailed-exitcode",
        "--format",
        "json",
        cwd=small.folder,
    )
    assert result.code == 2
    assert json.loads(result.out)["summary"]["moves"]["documents"] == 6


def test_the_work_place_is_not_needed(small: World, tmp_path: Path, moto: MotoServer) -> None:
    """`show` works without database and configs."""
    plan(small)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(small.folder / "p.json", elsewhere)
    for path in small.folder.glob("*.yaml"):
        path.unlink()
    (small.folder / "anchore.db").unlink()
    assert here("show", "p.json", cwd=elsewhere).code == 0
    assert Place(small.folder, small.url).tag


@pytest.mark.parametrize(
    ("line", "shown"),
    [(("plan", "a", "b", "--probe"), "reconcile plan --help"), (("--log-level",), "reconcile --help")],
)
def test_what_to_type_after_a_wrong_option_works_as_it_is_printed(
    tmp_path: Path, line: tuple[str, ...], shown: str
) -> None:
    refused = here(*line, cwd=tmp_path)
    assert refused.code == 64
    assert f"next: {shown}\n" in refused.err
    assert here(*shown.split()[1:], cwd=tmp_path).code == 0


def test_every_option_can_be_given_by_environment() -> None:
    import click

    from reconcile.cli.main import cli

    context = click.Context(cli)
    commands = [cli, *(cli.get_command(context, name) for name in cli.list_commands(context))]
    for command in commands:
        assert command is not None
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("help", "version"):
                variables = parameter.envvar if isinstance(parameter.envvar, tuple) else [str(parameter.envvar)]
                assert all(name.startswith("RECONCILE_") for name in variables), f"{command.name} {parameter.name}"


def test_an_option_by_environment_counts(small: World) -> None:
    result = plan(small, RECONCILE_KEEP_SOURCE="1", RECONCILE_BUCKET="policy_bundles analysis_data")
    assert "sources   kept" in result.out
    assert "to move   4 documents" in result.out


def test_a_variable_of_one_verb_wins_and_an_ambiguous_one_is_of_one_verb_only(small: World) -> None:
    result = plan(small, RECONCILE_KEEP_SOURCE="1", RECONCILE_PLAN_KEEP_SOURCE="0", RECONCILE_PLAN_LIMIT="2")
    assert "sources   deleted" in result.out
    assert "to move   2 documents" in result.out
    (small.folder / "p.json").unlink()
    assert "to move   6 documents" in plan(small, RECONCILE_LIMIT="2").out


def test_a_plan_that_was_undone_is_applied_again_only_with_its_own_configs(small: World) -> None:
    """A new run begins: the leniency for what is switched already is not for it."""
    plan(small)
    small.apply("p.json")
    small.undo()
    shutil.copy(small.folder / "config.yaml", small.folder / "config.old.yaml")
    shutil.copy(small.folder / "dest.yaml", small.folder / "config.yaml")
    refused(small, here("apply", "p.json", "--yes", cwd=small.folder), 78, "this is not the source config")


def test_an_undo_plan_whose_new_config_has_gone(small: World) -> None:
    plan(small)
    small.apply("p.json")
    (small.folder / "dest.yaml").unlink()
    assert here("undo", "p.undo.json", "--yes", cwd=small.folder).code == 0
