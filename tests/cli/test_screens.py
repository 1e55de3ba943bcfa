"""What operators read, and what it makes them do: each printed command works as it stands, at 80 columns as at 140."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest

from tests.archives import Place, new_sqlite
from tests.cli.commands import commands_in
from tests.cli.desk import filled, last_run, planned, stage_only
from tests.cli.forks import forks
from tests.cli.runner import KILLER, here, killed, on_terminal, reconcile
from tests.servers.moto import MotoServer
from tests.world import World, s3

RECONCILE = [sys.executable, "-m", "reconcile"]
REPOSITORY = Path(__file__).parents[2]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def lite(folder: Path) -> World:
    """An archive in a folder with a blank in its name."""
    home = folder / "a folder"
    home.mkdir()
    return filled(World(home, new_sqlite(home)))


def words(command: str) -> list[str]:
    """Return what a shell makes of a command that was printed."""
    shell = f"reconcile() {{ printf '%s\\0' \"$@\"; }}; {command}"
    done = subprocess.run(["sh", "-c", shell], check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def typed(command: str, world: World) -> None:
    """Type a printed command into a shell, as it stands."""
    if command.startswith("reconcile "):
        yes = ["--yes"] if re.search(r"reconcile (apply|undo|clean)\b", command) else []
        done = reconcile(*words(command), *yes, cwd=world.folder)
        assert done.code == 0, (command, done.all)
    else:
        subprocess.run(["sh", "-c", command], cwd=world.folder, check=True)


@pytest.mark.parametrize("point", ["recorded", "after the switch", "marked", "before the end is recorded"])
def test_what_status_says_of_a_killed_run_works_as_it_stands(lite: World, point: str) -> None:
    planned(lite)
    killed(point, "apply", "p.json", "--yes", cwd=lite.folder)
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert said.startswith("INTERRUPTED: no process is working on it")
    typed(commands_in(said)[0], lite)
    assert {url.partition(":")[0] for url in lite.urls()} == {"db2"}
    done = here("status", "--source", "config.yaml", cwd=lite.folder).out
    typed(commands_in(done)[0], lite)  # the undo
    assert {url.partition(":")[0] for url in lite.urls()} == {"db"}


@pytest.mark.parametrize("keep_old", [True, False])
def test_killed_while_cleaning_and_the_new_config_in_place(lite: World, keep_old: bool) -> None:
    """The services run with the new config by then, under the old one's name; the same command resumes (R6)."""
    planned(lite)
    killed("marked", "apply", "p.json", "--yes", cwd=lite.folder)
    if keep_old:
        shutil.copy(lite.folder / "config.yaml", lite.folder / "config.old.yaml")
    shutil.copy(lite.folder / "dest.yaml", lite.folder / "config.yaml")
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    typed(commands_in(said)[0], lite)
    assert lite.sql("SELECT count(*) FROM archive_document")[0][0] == 0
    again = here("apply", "p.json", "--yes", cwd=lite.folder)
    assert (again.code, "applied already" in again.out) == (0, True)
    typed(
        commands_in(here("status", "--source", "config.yaml", cwd=lite.folder).out.replace("do; ", "do;\nnext: "))[0],
        lite,
    )


def test_credentials_that_are_in_no_known_file_any_more_have_a_placeholder(lite: World, moto: MotoServer) -> None:
    """The run stays switched, and the message says which config is wanted."""
    there = Place(lite.folder, lite.url, moto)
    lite.apply(planned(lite, "setup.json"))
    lite.config("s3", s3(moto, there.buckets[0]))
    lite.apply(lite.plan(lite.folder / "dest.yaml", lite.folder / "s3.yaml", "to-s3.json"))
    lite.plan(lite.folder / "s3.yaml", lite.folder / "config.yaml", "p.json")
    killed("marked", "apply", "p.json", "--yes", cwd=lite.folder)
    secret = (lite.folder / "s3.yaml").read_text()
    (lite.folder / "s3.yaml").write_text((lite.folder / "config.yaml").read_text())
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert "--source FILE" in said
    result = here("apply", "p.json", "--yes", cwd=lite.folder)
    assert (result.code, there.buckets[0] in result.err, "--source FILE" in result.err) == (78, True, True)
    (lite.folder / "found again.yaml").write_text(secret)
    assert here("apply", "p.json", "--yes", "--source", "found again.yaml", cwd=lite.folder).code == 0


@pytest.mark.parametrize("option", ["--stage-only", "--clean-later"])
def test_a_killed_run_is_resumed_to_where_it_was_asked_to_stop(lite: World, option: str) -> None:
    """Nobody remembers the options: a printed command may not switch or delete for want of them."""
    planned(lite)
    killed("recorded", "apply", "p.json", "--yes", option, cwd=lite.folder)
    first = next(iter(commands_in(here("status", "--source", "config.yaml", cwd=lite.folder).out)))
    assert option in first
    typed(first, lite)
    assert _state(lite) == ("staging" if option == "--stage-only" else "switched")


@pytest.mark.parametrize("point", ["recorded", "marked"])
def test_a_killed_run_of_a_plan_with_blockers_is_resumed(lite: World, point: str) -> None:
    """The plan is refused without ``--leave-blocked``, before the switch and after it."""
    lite.sql("UPDATE archive_document SET jsondata = NULL WHERE \"archiveId\" = 'sha256:0001'")
    lite.sql("UPDATE archive_metadata SET content_url = 's3://nowhere/x' WHERE \"archiveId\" = 'sha256:0001'")
    planned(lite)
    killed(point, "apply", "p.json", "--yes", "--leave-blocked", cwd=lite.folder)
    first = next(iter(commands_in(here("status", "--source", "config.yaml", cwd=lite.folder).out)))
    assert "--leave-blocked" in first
    assert reconcile(*words(first), "--yes", cwd=lite.folder).code == 3  # done, apart from those
    assert _state(lite) == "done"


def _state(world: World) -> str:
    shown = here("status", "--source", "config.yaml", "--format", "json", cwd=world.folder).out
    return str(json.loads(shown)["run"]["state"])


def test_a_killed_clean_of_kept_sources_is_resumed_by_clean(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", "--keep-source", cwd=lite.folder).code == 0
    configs = ("--source", "config.yaml", "--dest", "dest.yaml")
    killed("marked", "clean", last_run(lite), *configs, "--yes", cwd=lite.folder)
    status = here("status", "--source", "config.yaml", cwd=lite.folder).out
    command = next(command for command in commands_in(status) if not command.startswith("reconcile undo"))
    assert command.startswith("reconcile clean ")
    shown = on_terminal("apply", "p.json", typed="no\n", cwd=lite.folder)
    assert "Sources are DELETED" in shown.all
    typed(command, lite)
    assert _state(lite) == "done"


def test_an_undo_with_changes_says_that_it_begins_anew(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
    killed("recorded", "undo", "p.undo.json", "--with-changes", "--yes", cwd=lite.folder)
    status = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert "starts it again" in status
    command = next(command for command in commands_in(status) if "undo" in command)
    assert "--with-changes" in command
    typed(command, lite)


def test_a_run_beside_it_is_taken_back_with_the_configs_where_they_are(lite: World) -> None:
    """Once the new config has taken the old one's place."""
    planned(lite)
    killed("recorded", "apply", "p.json", "--yes", cwd=lite.folder)
    shutil.copy(lite.folder / "config.yaml", lite.folder / "config.old.yaml")
    shutil.copy(lite.folder / "dest.yaml", lite.folder / "config.yaml")
    status = here("status", "--source", "config.yaml", cwd=lite.folder).out
    command = next(command for command in commands_in(status) if command.startswith("reconcile undo"))
    assert "config.old.yaml" in command
    typed(command, lite)


def test_the_end_of_apply_is_lines_to_copy(lite: World) -> None:
    planned(lite)
    before = lite.tables()
    new, old = ((lite.folder / name).read_text() for name in ("dest.yaml", "config.yaml"))
    result = here("apply", "p.json", "--yes", cwd=lite.folder)
    lines = commands_in(result.out)
    assert [shlex.split(line)[:2] for line in lines] == [["cp", "-p"], ["cp", "-p"], ["reconcile", "undo"]]
    assert "***" not in result.out
    for line in lines[:2]:
        typed(line, lite)
    assert ((lite.folder / "config.yaml").read_text(), (lite.folder / "config.old.yaml").read_text()) == (new, old)
    assert "config.old.yaml" in lines[2]
    typed(lines[2], lite)
    assert lite.tables() == before


def test_the_end_of_apply_knows_that_the_new_config_is_in_place(lite: World) -> None:
    planned(lite)
    before = lite.tables()
    killed("marked", "apply", "p.json", "--yes", cwd=lite.folder)
    for source, dest in (("config.yaml", "config.old.yaml"), ("dest.yaml", "config.yaml")):
        shutil.copy(lite.folder / source, lite.folder / dest)
    result = here("apply", "p.json", "--yes", cwd=lite.folder)
    assert re.search(
        r"next: start the services with \S*'?.*config\.yaml'?, which already has the new config", result.out
    )
    assert "config.old.old.yaml" not in result.out
    (undo,) = commands_in(result.out)
    killed("recorded", *shlex.split(undo)[1:], "--yes", cwd=lite.folder)
    resume = commands_in(here("status", "--source", "config.yaml", cwd=lite.folder).out)[0]
    shown = on_terminal(*shlex.split(resume)[1:], cwd=lite.folder, typed="yes\n", results=True)
    assert shown.code == 0
    assert re.search(r"resuming run \S+: \d of 6 staged", shown.err)
    assert "Plan undo-" not in shown.err
    typed(commands_in(shown.err)[-1], lite)  # the old config back in its place
    assert (lite.folder / "config.yaml").read_text() == (lite.folder / "config.old.yaml").read_text()
    assert lite.tables() == before


def test_an_undo_to_a_config_that_no_file_holds_any_more_says_what_it_has_to_say(lite: World) -> None:
    """config.yaml was overwritten, and no copy was made: it is not named as what services may be started with."""
    lite.apply(planned(lite))
    shutil.copy(lite.folder / "dest.yaml", lite.folder / "config.yaml")
    command = commands_in(here("status", "--source", "config.yaml", cwd=lite.folder).out)[-1]
    result = here(*shlex.split(command)[1:], "--yes", cwd=lite.folder)
    assert result.code == 0
    assert f"NOT YET: {lite.folder / 'config.yaml'} has changed since the plan" in result.out
    assert "name: db\n" in result.out
    assert "start the services with a config with the former content of" in result.err
    assert "start the services with" not in result.out


def test_a_second_migration_overwrites_no_config_that_was_kept(lite: World) -> None:
    planned(lite)
    (lite.folder / "config.old.yaml").write_text("what was kept before")
    lines = commands_in(here("apply", "p.json", "--yes", cwd=lite.folder).out)
    for line in lines[:2]:
        typed(line, lite)
    assert (lite.folder / "config.old.yaml").read_text() == "what was kept before"
    assert "config.old-2.yaml" in lines[2]
    assert "config.old-2.yaml" in here("status", "--source", "config.yaml", cwd=lite.folder).out
    typed(lines[2], lite)
    assert lite.urls()[0].startswith("db:")


def test_a_finished_plan_is_not_asked_about(lite: World) -> None:
    lite.apply(planned(lite))
    result = here("apply", "p.json", cwd=lite.folder)
    assert result.code == 0
    assert "nothing to do: the plan is applied already" in result.out
    assert "DELETED" not in result.all


def test_the_config_is_printed_on_request(lite: World, moto: MotoServer) -> None:
    there = Place(lite.folder, lite.url, moto)
    lite.config("dest", s3(moto, there.buckets[0]))
    planned(lite)
    said = here("apply", "p.json", "--yes", "--show-config", cwd=lite.folder).out
    assert "services.catalog of the config, credentials masked" in said
    assert "secret_key: '***'" in said


def test_the_switch_is_told_when_it_is_committed(lite: World) -> None:
    """The downtime ends then, not when the last source is deleted; lines stand in the order of events."""
    planned(lite)
    result = on_terminal("apply", "p.json", "--yes", cwd=lite.folder, columns=140)
    shown = ESCAPE.sub("", result.err)
    order = ["stage: 6 documents", "recheck: 6 documents", "switched: you can start the services with", "clean: 6"]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    assert re.search(r"\d\d:\d\d:\d\d UTC: switched", shown)
    assert "\x1b[1m" in result.err
    assert result.err.rindex("\x1b[?25h") > result.err.rindex("\x1b[?25l")  # the cursor is there, also after kill -9


def test_clean_later_ends_at_the_switch(lite: World) -> None:
    planned(lite)
    result = here("apply", "p.json", "--yes", "--clean-later", cwd=lite.folder)
    assert result.code == 0
    assert lite.sql("SELECT count(*) FROM archive_document")[0][0] == 6
    assert {url.partition(":")[0] for url in lite.urls()} == {"db2"}
    assert "the run has already switched" in here("apply", "p.json", "--yes", "--clean-later", cwd=lite.folder).out
    typed(next(line for line in commands_in(result.out) if " clean " in line), lite)
    assert lite.sql("SELECT count(*) FROM archive_document")[0][0] == 0
    typed(f"reconcile undo {last_run(lite)} --source dest.yaml --dest config.yaml", lite)


def test_what_cannot_be_taken_back_is_said_and_yes_is_to_be_typed(lite: World) -> None:
    planned(lite)
    for answer in ("n\n", "y\n", "\n"):
        result = on_terminal("apply", "p.json", cwd=lite.folder, typed=answer)
        assert result.code == 13
        assert "6 documents move." in result.err
        assert "Sources are DELETED after the switch." in result.err
        assert "declined: nothing was changed" in result.err
    kept = on_terminal("apply", "p.json", "--keep-source", cwd=lite.folder, typed="yes\n")
    assert (kept.code, "Sources are KEPT" in kept.err) == (0, True)


def test_ctrl_c_at_the_prompt_says_that_nothing_was_changed(lite: World) -> None:
    planned(lite)
    screen, end = pty.openpty()
    process = subprocess.Popen(
        [*RECONCILE, "apply", "p.json"], cwd=lite.folder, stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    shown = b""
    while b"Type yes" not in shown:
        shown += os.read(screen, 4096)
    while process.poll() is None:  # readline may lose one that comes just as it begins to read
        process.send_signal(signal.SIGINT)
        time.sleep(3)
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(screen, 4096):
            shown += piece
    os.close(screen)
    assert process.returncode == 130
    assert b"interrupted at the prompt: nothing was changed" in shown
    assert b"goes on" not in shown


def test_going_on_with_a_run_says_so_in_few_lines(lite: World) -> None:
    planned(lite)
    killed("recorded", "apply", "p.json", "--yes", cwd=lite.folder)
    result = on_terminal("apply", "p.json", cwd=lite.folder, typed="yes\n")
    shown = ESCAPE.sub("", result.err).replace("\r", "").splitlines()
    asked = next(number for number, line in enumerate(shown) if "Type yes" in line)
    assert asked <= 4
    assert re.search(r"resuming run \S+: \d of 6 staged", result.err)
    assert result.code == 0


def test_a_watch_ends_once_nobody_is_at_work(lite: World) -> None:
    planned(lite)
    killed("recorded", "apply", "p.json", "--yes", cwd=lite.folder)
    result = reconcile("status", "--watch", "--interval", "0.1", "--source", "config.yaml", cwd=lite.folder)
    assert result.code == 14
    assert "INTERRUPTED" in result.out
    assert "documents/s" not in result.out


def test_a_watch_waits_for_a_run_to_begin(lite: World) -> None:
    planned(lite)
    watch = ("status", "--watch", "--wait", "--interval", "0.1", "--source", "config.yaml")
    process = forks().start("reconcile", watch, lite.folder)
    assert "waiting for a run to begin" in process.stderr.readline()
    stopped = forks().start(KILLER, ("recorded", "apply", "p.json", "--yes"), lite.folder, CRASH_SIGNAL="SIGSTOP")
    assert "of 6 documents" in process.stdout.readline()
    stopped.kill()
    stopped.wait()
    assert process.wait(60) == 14


def test_configs_in_the_wrong_order(lite: World) -> None:
    """Nothing led there: the two are reversed, and the right command is printed. After a run they are not."""
    result = here("plan", "dest.yaml", "config.yaml", "--out", "r.json", cwd=lite.folder)
    assert result.code == 64
    assert "the two configs look reversed" in result.err
    assert not (lite.folder / "r.json").exists()
    typed(result.err.partition("next: ")[2].strip() + " --out p.json", lite)
    lite.apply("p.json")
    again = here("plan", "config.yaml", "dest.yaml", "--out", "r.json", cwd=lite.folder)
    assert again.code == 0
    assert f"Every document is already in place: run {last_run(lite)} moved them." in again.out


@pytest.mark.parametrize(("to", "state"), [("db", "complete"), ("s3", "complete"), ("db", "failed")])
def test_what_the_vendor_migrated_there_is_no_wrong_order(lite: World, to: str, state: str) -> None:
    """Only a migration that is complete, and that led to where the documents are."""
    task = {"id": 7, "type": "archivemigrationtask", "state": state, "executor_id": "host:1:MainThread"}
    lite.insert("tasks", task)
    lite.insert("archive_migration_tasks", {"id": 7, "migrate_from_driver": "db2", "migrate_to_driver": to})
    result = here("plan", "dest.yaml", "config.yaml", "--out", "r.json", cwd=lite.folder)
    if (to, state) == ("db", "complete"):
        assert result.code == 0
        assert "Every document is already in place: migration 7 of anchore-manager moved them." in result.out
    else:
        assert result.code == 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plna"], "did you mean plan?\n        reconcile plan --help"),
        (["aply", "p.json"], "did you mean apply?\n        reconcile apply --help"),
        (["list"], "reconcile runs"),
        (["rollback"], "reconcile undo RUN"),
        (["resume"], "reconcile apply PLAN    # resumes the plan's run"),
        (["apply", "p.json", "--dry-run"], "reconcile show PLAN    # shows what a plan would do"),
        (["apply", "p.json", "--dryrun"], "reconcile show PLAN    # shows what a plan would do"),
        (["apply", "."], "name the file of a plan, such as one in plans/"),
        (["apply", "dest.yaml"], "reconcile plan SOURCE dest.yaml"),
        (["apply", "--keep-sorce", "p.json"], "--keep-source"),
    ],
)
def test_what_was_meant_is_told(arguments: list[str], said: str, lite: World) -> None:
    result = here(*arguments, cwd=lite.folder)
    assert result.code in (1, 64)
    assert said in result.err


def test_the_same_command_is_printed_but_never_a_credential(lite: World) -> None:
    """R8: what is left of it may be a log alone; a password that was typed into it stays out."""
    planned(lite)
    said = here("apply", "p.json", "--yes", "--limit", "2", cwd=lite.folder).err
    assert "next: the same command resumes" in said
    assert "\n        reconcile apply p.json --yes --limit 2\n" in said
    for there in ("anchore:open-sesame@127.0.0.1:1/anchore", "127.0.0.1:1/anchore?user=a&password=open-sesame%21"):
        url = f"postgresql://{there}"
        said = here("apply", "p.json", "--yes", "--db-connect", url, cwd=lite.folder, RECONCILE_DB_RETRIES="1").err
        assert "error: " in said
        assert ("open-sesame" in said, "--db-connect postgresql" in said) == (False, False)


def test_commands_say_that_they_need_the_database_that_was_typed(lite: World) -> None:
    """Where it was an option: from the environment, or a config, they find it by themselves."""
    planned(lite)
    note = "with --db-connect again, or once for all: export RECONCILE_DB_CONNECT=URL"
    done = here("apply", "p.json", "--yes", "--db-connect", lite.url, cwd=lite.folder)
    assert (done.code, done.out.count(note)) == (0, 1)
    assert note not in here("status", cwd=lite.folder, RECONCILE_DB_CONNECT=lite.url).out
    assert note not in here("status", "--source", "config.yaml", cwd=lite.folder).out


def test_a_table_that_does_not_fit_is_written_line_by_line(lite: World) -> None:
    """Names that are broken into pieces can be neither read nor searched for."""
    name = "sha256:" + "0123456789abcdef" * 4
    lite.row(name, b"x", content_url="tape://of/another/" + name)
    planned(lite)
    lite.apply("p.json", leave_blocked=True)
    wide, narrow = (
        on_terminal("report", "--source", "config.yaml", cwd=lite.folder, columns=columns, results=True).err
        for columns in (400, 80)
    )
    assert re.search(r"Document +State +Reason", wide)
    assert re.search(rf"\r\n  admin/policy_bundles/{name}\r\n    State: blocked; Reason: \S+\r\n", narrow)


@pytest.mark.parametrize("columns", [80, 140])
def test_help_fits_the_terminal_and_is_in_groups(columns: int, lite: World) -> None:
    for arguments in (["--help"], ["apply", "--help"]):
        result = on_terminal(*arguments, cwd=lite.folder, columns=columns, results=True)
        lines = ESCAPE.sub("", result.err).replace("\r", "").splitlines()
        assert max(map(len, lines)) <= columns
        assert not [line for line in lines if line.endswith("...") and not line.startswith("Usage:")]
    assert [line for line in lines if line in ("Limits and speed:", "Database:")] == ["Limits and speed:", "Database:"]


def test_an_interrupted_plan_ends_soon_and_says_what_is_so(lite: World, moto: MotoServer) -> None:
    """Whatever a server lets it wait for (here: a listing), and nothing is left of the file."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = type(
            "Silent", (), {"url": f"http://127.0.0.1:{silent.getsockname()[1]}", "access_key": "a", "secret_key": "b"}
        )
        lite.config("dest", s3(server, "never"))
        arguments = ("plan", "config.yaml", "dest.yaml", "--out", "p.json", "--probe", "exists")
        process = forks().start("reconcile", arguments, lite.folder)
        silent.settimeout(60)
        connection, _peer = silent.accept()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=300)
        connection.close()
    assert process.returncode == 130
    assert "planning was interrupted: no plan was saved, and nothing was changed" in err
    assert not (lite.folder / "p.json").exists()


@pytest.mark.parametrize(
    ("arguments", "signals"),
    [(("plan", "config.yaml", "dest.yaml", "--out", "p2.json"), 1), (("apply", "p.json", "--yes"), 2)],
    ids=["plan", "apply"],
)
def test_ctrl_c_ends_a_statement_that_the_database_is_at(
    folder: Path, database: str, arguments: tuple[str, ...], signals: int
) -> None:
    world = filled(World(folder, database))
    planned(world)
    other = psycopg2.connect(database)
    other.cursor().execute("LOCK archive_document, archive_metadata IN ACCESS EXCLUSIVE MODE")
    process = forks().start("reconcile", arguments, folder)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not world.sql(waiting)[0][0]:
        assert process.poll() is None
        time.sleep(0.1)
    for _signal in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    _out, err = process.communicate(timeout=300)
    other.close()  # until here the table was locked, so nothing but the signal can have ended it
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "nothing was changed" in err if signals == 1 else "the same command resumes" in err


def test_a_probe_of_an_empty_bucket_asks_for_no_document_by_name(
    lite: World, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconcile.stores.s3 import S3Store

    there = Place(lite.folder, lite.url, moto)
    there.client().create_bucket(Bucket=there.buckets[0])
    lite.add_all((f"more-{number:03}", b"x", "admin", "policy_bundles") for number in range(60))
    asked: list[object] = []
    monkeypatch.setattr(S3Store, "_stat", lambda _self, key: asked.append(key))
    plan = lite.plan(lite.folder / "config.yaml", lite.config("s3", s3(moto, there.buckets[0])), probe="exists")
    assert plan.header.summary.moves.documents == 66
    assert not asked


def test_a_status_of_many_failures_fits_a_screen_and_json_has_them_all(lite: World) -> None:
    lite.add_all(((f"bad-{number:02}", b"x", "admin", "policy_bundles") for number in range(40)), digest="0" * 32)
    planned(lite)
    failed = here("--log-level", "error", "apply", "p.json", "--yes", cwd=lite.folder)
    assert failed.code == 1
    assert failed.err.count("wrong_digest") == 1  # a reason once, with the first documents under it
    assert "wrong_digest: 40 documents" in failed.err
    assert "and 35 more: reconcile status" in failed.err
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert len(said.splitlines()) <= 24
    assert "and more: --format json lists them" in said
    told = here("status", "--source", "config.yaml", "--format", "json", cwd=lite.folder).out
    assert len(json.loads(told)["troubles"]) == 40


def test_a_vendors_migration_that_was_killed_is_not_running_for_ever(lite: World) -> None:
    lite.sql(
        "INSERT INTO tasks (id, state, created_at, started_at, executor_id, type)"
        " VALUES (7, 'running', '2026-01-01', '2026-01-01', 'host:1', 'archivemigrationtask')"
    )
    lite.sql(
        "INSERT INTO archive_migration_tasks (id, archive_documents_to_migrate, archive_documents_migrated,"
        " migrate_from_driver, migrate_to_driver) VALUES (7, 20007, 12, 'db', 's3')"
    )
    assert "broken off" in (said := here("runs", "--source", "config.yaml", cwd=lite.folder).out)
    assert "12 of 20,007 documents" in said


def test_status_shows_the_run_that_something_last_came_of(lite: World) -> None:
    """Not one that was begun later, while an earlier one has switched since: that one is shown beside it."""
    earlier = stage_only(lite, planned(lite))
    later = stage_only(lite, planned(lite, "later.json"))
    assert here("apply", "p.json", "--yes", "--clean-later", cwd=lite.folder).code == 0
    lite.sql("UPDATE reconcile_runs SET switched_at = switched_at + 2 WHERE switched_at IS NOT NULL")
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert f"run {earlier}: the catalog is switched" in said
    assert f"also unfinished: run {later}: reconcile undo {later} " in said
    said = here("status", later, "--source", "config.yaml", cwd=lite.folder).out
    assert f"also unfinished: run {earlier}: reconcile clean {earlier} " in said


def test_a_killed_drop_of_copies_says_that_the_catalog_is_untouched(lite: World) -> None:
    run = stage_only(lite, planned(lite))
    killed("marked", "undo", run, "--yes", "--source", "dest.yaml", "--dest", "config.yaml", cwd=lite.folder)
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    assert f"run {run}: being undone; the catalog is unchanged" in said


def test_kept_sources_are_not_forgotten(lite: World) -> None:
    planned(lite, keep_source=True)
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
    said = here("status", "--source", "config.yaml", cwd=lite.folder).out
    (command,) = (command for command in commands_in(said) if command.startswith("reconcile clean"))
    assert here(*shlex.split(command)[1:], "--yes", cwd=lite.folder).code == 0
    assert "reconcile clean" not in here("status", "--source", "config.yaml", cwd=lite.folder).out


def test_a_page_is_not_written_to_a_terminal(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", cwd=lite.folder).code == 0
    shown = on_terminal("report", "--source", "config.yaml", "--format", "html", cwd=lite.folder, results=True)
    assert shown.code == 64, shown.all
    (command,) = commands_in(shown.err)
    assert here(*shlex.split(command)[1:], cwd=lite.folder).code == 0
    assert (lite.folder / "report.html").exists()


def test_an_undone_run_says_which_run_the_catalog_is_as_now(lite: World) -> None:
    """Two plans for one move: one is given up after the other has switched."""
    planned(lite)
    lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml", "q.json")
    lite.apply("p.json", stage_only=True)
    given_up = last_run(lite)
    switched = lite.apply("q.json").run_id
    assert here("undo", given_up, "--yes", "--source", "config.yaml", cwd=lite.folder).code == 0
    shown = here("status", given_up, "--source", "config.yaml", cwd=lite.folder)
    assert f"catalog  run {switched} switched it at" in shown.out
    assert "dest.yaml says" in shown.out


def test_a_plan_where_an_undo_plan_belongs_leads_to_the_undo_plan(lite: World) -> None:
    planned(lite)
    lite.apply("p.json")
    refused = reconcile("undo", "p.json", "--yes", cwd=lite.folder)
    assert refused.code == 1
    assert "reconcile undo p.undo.json    # undoes its run" in refused.err


def test_apply_names_other_runs_that_are_unfinished(lite: World) -> None:
    planned(lite)
    planned(lite, "q.json")
    lite.apply("p.json", stage_only=True)
    staged = last_run(lite)
    done = here("apply", "q.json", "--yes", cwd=lite.folder, RECONCILE_DB_CONNECT=lite.url)
    assert done.code == 0, done.all
    assert f"note: run {staged} of {lite.folder / 'p.json'} is unfinished:\n      reconcile undo {staged}" in done.err
    resumed = here("apply", "q.json", "--yes", cwd=lite.folder, RECONCILE_DB_CONNECT=lite.url)
    assert f"note: run {staged}" not in here("status", cwd=lite.folder, RECONCILE_DB_CONNECT=lite.url).out
    assert resumed.code == 0
