"""What can happen to the catalog's database under a run: restarts, a lost lock, poolers, locks, time-outs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from reconcile.catalog import lock
from reconcile.errors import CatalogError, LockedError, PlaceChangedError, ReconcileError
from reconcile.running.phases import order, stage
from reconcile.running.phases.clean_part import PartCleaner
from reconcile.running.phases.order import Phases
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.phases.switch import Switcher
from tests.archives import connect, new_sqlite
from tests.cli.desk import last_run
from tests.cli.runner import reconcile
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgresServer
from tests.world import DB, DB2, World, localfs


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    server = PostgresServer()
    yield server
    server.close()


def finish(world: World, source: Path, dest: Path, before: dict[str, Any], truth: dict[str, Any]) -> None:
    """The same command finishes, and an undo takes it back."""
    outcome = world.apply("p.json")
    assert outcome.documents == len(truth)
    assert world.read(dest) == truth
    world.undo()
    assert world.tables() == before
    assert world.read(source) == truth


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], None], when: str) -> None:
    """Do something before or after the first call of a function."""
    original, done = getattr(owner, name), []

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        first = not done
        done.append(True)
        if first and when == "before":
            action()
        result = original(*args, **kwargs)
        if first and when == "after":
            action()
        return result

    monkeypatch.setattr(owner, name, wrapper)


MOMENTS = {
    "while staging": (PartStager, "_record_intent", "after"),
    "after a write": (PartStager, "_record", "before"),
    "before the switch": (Switcher, "switch", "before"),
    "inside the switch": (Switcher, "_repoint", "after"),
    "after the switch": (Switcher, "switch", "after"),
    "while cleaning": (PartCleaner, "_mark", "after"),
    "at the end": (Phases, "_finish", "before"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_server_is_killed_and_comes_back(
    folder: Path, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """R1, R2, R6, with ``synchronous_commit=off`` as the role's default: what was reported done is durable."""
    world = World(folder, own_server.database())
    own_server.run("postgres", "ALTER ROLE anchore SET synchronous_commit = off")
    world.fill(20)
    source, dest = world.config("config", DB), world.config("dest", localfs(folder / "archive"))
    before, truth = world.tables(), world.read(source)
    world.plan(source, dest)

    def kill() -> None:
        own_server.stop("immediate")
        own_server.start()

    owner, name, when = MOMENTS[moment]
    with monkeypatch.context() as patched:
        once(patched, owner, name, kill, when)
        # Without a lock nothing goes on but what is in hand: so late there may be no more.
        late = moment in ("while cleaning", "at the end")
        with suppress(ReconcileError) if late else pytest.raises(ReconcileError, match=r"database|lock was lost"):
            world.apply("p.json")
    assert truth in (world.read(source), world.read(dest))
    finish(world, source, dest, before, truth)


@pytest.mark.parametrize("moment", ["while staging", "before the switch", "while cleaning"])
def test_the_connection_that_holds_the_lock_is_terminated(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The run does not go on without the lock; exit 10."""
    world = World(folder, database)
    world.fill(40)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    before, truth = world.tables(), world.read(source)
    world.plan(source, dest)
    monkeypatch.setattr(lock, "_WATCH_SECONDS", 0)
    monkeypatch.setattr(stage, "BATCH_DOCUMENTS", 5)

    def terminate() -> None:
        world.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        time.sleep(0.3)

    owner, name, when = MOMENTS[moment]
    with monkeypatch.context() as patched:
        once(patched, owner, name, terminate, when)
        if moment == "while cleaning":
            patched.setattr("reconcile.running.phases.clean._PART_DOCUMENTS", 2)
        with pytest.raises(LockedError, match="the lock was lost") as error:
            world.apply("p.json", workers=1)
    assert error.value.exit_code == 10
    finish(world, source, dest, before, truth)


@pytest.mark.matrix
def test_a_transaction_pooler_is_refused(folder: Path, database: str) -> None:
    """A session's lock would be somebody else's there. A pool of sessions is as good as none."""
    world = World(folder, database)
    world.fill(5)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    world.plan(source, dest)
    tables = world.tables()
    for mode, code in (("transaction", 1), ("session", 0)):
        try:
            pool = PgBouncer(database, mode)
        except FileNotFoundError:
            pytest.skip("no pgbouncer: neither installed nor to be had from Debian's packages")
        try:
            planned = reconcile("plan", source, dest, "--out", f"{mode}.json", "--db-connect", pool.url, cwd=folder)
            assert planned.code == 0, planned.all
            result = reconcile("apply", "p.json", "--yes", "--db-connect", pool.url, cwd=folder)
            assert result.code == code, result.all
            if mode == "transaction":
                assert "pool_mode=session" in result.err
                assert world.tables() == tables
                assert world.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        finally:
            pool.close()
    run = last_run(world)
    with pytest.raises(PlaceChangedError, match="the former address does not answer"):
        world.undo()  # reached by itself now: nobody can tell that this is the same one
    bound = reconcile("rebind", run, "--source", source, "--dest", dest, "--confirm", run, cwd=folder)
    assert bound.code == 0, bound.all
    world.undo()
    assert world.tables() == tables


def test_the_catalog_is_locked_by_another_session(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long transaction of somebody's: the switch gives up after a while, and the same command resumes later."""
    world = World(folder, database)
    world.fill(5)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    before, truth = world.tables(), world.read(source)
    world.plan(source, dest)
    monkeypatch.setattr("reconcile.running.phases.switch._LOCK_SECONDS", 1)
    other = connect(database)
    other.cursor().execute("UPDATE archive_metadata SET size = size")
    with pytest.raises(CatalogError, match="another session is using the catalog"):
        world.apply("p.json")
    other.rollback()
    other.close()
    finish(world, source, dest, before, truth)


@pytest.fixture
def small_tablespace(database: str, postgresql: PostgresServer) -> Iterator[str]:
    """A tablespace on a file system of 4 MiB."""
    place = postgresql.folder_of_its_own("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    postgresql.own(place)
    postgresql.run("postgres", f"CREATE TABLESPACE small LOCATION '{place}'")
    yield "small"
    postgresql.run("postgres", f"DROP DATABASE {database.rpartition('/')[2]} WITH (FORCE)")
    postgresql.run("postgres", "DROP TABLESPACE small")
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_the_database_is_full(folder: Path, database: str, postgresql: PostgresServer, small_tablespace: str) -> None:
    """A real disk, and a real server that cannot grow its table there."""
    world = World(folder, database)
    world.add_all((f"{number:02}", os.urandom(200_000), "admin", "policy_bundles") for number in range(40))
    source, dest = world.config("config", DB), world.config("dest", DB2)
    before, truth = world.tables(), world.read(source)
    world.plan(source, dest)
    name = database.rpartition("/")[2]
    postgresql.run(name, f"ALTER TABLE object_storage SET TABLESPACE {small_tablespace}")
    result = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert result.code == 1
    assert "No space left on device" in result.err
    assert "next: once it is available again, the same command resumes" in result.err
    assert world.read(source) == truth
    assert world.tables()["archive_metadata"] == before["archive_metadata"]
    postgresql.run(name, "ALTER TABLE object_storage SET TABLESPACE pg_default")
    finish(world, source, dest, before, truth)


def test_a_role_with_defaults_of_its_own(folder: Path, database: str, postgresql: PostgresServer) -> None:
    """Serializable transactions and short time-outs by default: the run sets its own, and nothing is lost to them."""
    world = World(folder, database)
    world.fill(40)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    before, truth = world.tables(), world.read(source)
    for setting in (
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "statement_timeout = '1s'",
    ):
        postgresql.run("postgres", f"ALTER DATABASE {database.rpartition('/')[2]} SET {setting}")
    result = reconcile("plan", source, dest, "--out", "p.json", cwd=folder)
    assert result.code == 0, result.all
    result = reconcile("apply", "p.json", "--yes", "--workers", "8", cwd=folder)
    assert result.code == 0, result.all
    result = reconcile("apply", "p.undo.json", "--yes", "--workers", "8", cwd=folder)
    assert result.code == 0, result.all
    postgresql.run("postgres", f"ALTER DATABASE {database.rpartition('/')[2]} RESET ALL")
    assert world.tables() == before
    assert world.read(source) == truth


def test_a_transaction_takes_its_time(
    folder: Path, database: str, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role's default that ends what is idle in a transaction would end the switch of a slow machine."""
    world = World(folder, database)
    world.fill(5)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    name = database.rpartition("/")[2]
    postgresql.run("postgres", f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '1s'")
    switching = import_module("reconcile.running.phases.switch")
    fire = switching.fire_deferred
    monkeypatch.setattr(switching, "fire_deferred", lambda connection: (time.sleep(3), fire(connection)))
    assert world.apply(plan).documents == 5


def test_sqlite_is_locked_by_another_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for; after a minute (here a second) the run gives up, and the same command resumes."""
    world = World(folder, new_sqlite(folder))
    world.fill(5)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    before, truth = world.tables(), world.read(source)
    world.plan(source, dest)
    other = sqlite3.connect(folder / "anchore.db", check_same_thread=False)
    other.isolation_level = None
    other.execute("BEGIN IMMEDIATE")
    connecting = import_module("reconcile.catalog.connect")
    monkeypatch.setattr(connecting, "_BUSY_SECONDS", 1)
    with pytest.raises(CatalogError, match="database is locked"):
        world.apply("p.json")
    monkeypatch.setattr(connecting, "_BUSY_SECONDS", 30)
    timer = threading.Timer(1, lambda: other.execute("ROLLBACK"))
    timer.start()
    finish(world, source, dest, before, truth)
    timer.join()
    other.close()


def test_a_second_run_is_refused_and_told_who_holds_the_lock(folder: Path, database: str) -> None:
    """Exit 10 and since when; ``--lock-wait`` waits; the vendor's migration and ours exclude each other."""
    world = World(folder, database)
    world.fill(3)
    world.plan(world.config("config", DB), world.config("dest", DB2))
    vendor = connect(database)
    vendor.cursor().execute("SET application_name = 'anchore-manager'; SELECT pg_advisory_lock(2, 1)")
    vendor.commit()
    refused = reconcile("apply", "p.json", "--yes", "--lock-wait", "0", cwd=folder)
    assert refused.code == 10
    assert "another run holds the lock: anchore-manager, database process" in refused.err
    assert "since 20" in refused.err
    timer = threading.Timer(1.5, vendor.close)
    timer.start()
    assert reconcile("apply", "p.json", "--yes", "--lock-wait", "20", cwd=folder).code == 0
    timer.join()


def test_services_are_named_with_the_sessions_beside_them(folder: Path, database: str) -> None:
    """Exit 11: each service, the age of its heartbeat, and who else has the database open."""
    world = World(folder, database)
    world.fill(3)
    world.plan(world.config("config", DB), world.config("dest", DB2))
    beat = int(time.time()) - 7
    world.sql("INSERT INTO services (hostid, servicename, heartbeat) VALUES ('host-1', 'catalog', %s)", beat)
    other = connect(database)
    other.cursor().execute("SET application_name = 'anchore-catalog'")
    other.commit()
    result = reconcile("apply", "p.json", "--yes", "--wait-for-services", "0", cwd=folder)
    other.close()
    assert result.code == 11
    assert "catalog on host-1 (heartbeat" in result.err
    assert "Other sessions on the database: anchore-catalog from" in result.err
    seen = world.sql("SELECT remark FROM reconcile_runs")
    assert "services may be running" in seen[0][0]
    assert world.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'") == [(3,)]
    assert order.RunOptions().wait_for_services == 150
