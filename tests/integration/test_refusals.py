"""Two of us, and the services: who refuses whom, with which exit code, and what stays as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from reconcile.catalog import DatabaseOptions, connect
from reconcile.catalog.lock import run_lock
from reconcile.catalog.services import Heartbeat
from reconcile.errors import LockedError, ServicesRunningError, StageFailedError
from reconcile.running.phases import order
from reconcile.secret import Secret
from tests.archives import Place
from tests.cli.forks import forks
from tests.cli.runner import KILLER, reconcile
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, World, localfs, s3


def heartbeat(world: World, age: int) -> None:
    world.sql("DELETE FROM services")
    now = int(time.time()) - age
    row = {"hostid": "anchore-quickstart", "servicename": "catalog", "base_url": "http://x", "status": True}
    world.insert("services", row | {"heartbeat": now})


def test_a_second_run_is_refused(world: World) -> None:
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    catalog = connect(DatabaseOptions(url=Secret(world.url)))
    tables = world.tables()
    with run_lock(catalog, 0), pytest.raises(LockedError, match=r"another run holds the lock: .*since") as error:
        world.apply(plan, lock_wait=0.5)
    assert error.value.exit_code == 10
    assert world.tables() == tables
    with run_lock(catalog, 0):
        threading.Timer(1, catalog.close).start()
    assert world.apply(plan, lock_wait=10).documents == 3


def test_the_vendors_migration_and_ours_exclude_each_other(folder: Path, database: str) -> None:
    world = World(folder, database)
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    vendor = psycopg2.connect(database)
    vendor.cursor().execute("SELECT pg_advisory_lock(2, 1)")
    with pytest.raises(LockedError):
        world.apply(plan, lock_wait=0)
    vendor.close()
    catalog = connect(DatabaseOptions(url=Secret(database)))
    other = psycopg2.connect(database)
    with run_lock(catalog, 0):
        cursor = other.cursor()
        cursor.execute("SELECT pg_try_advisory_lock(2, 1)")
        assert cursor.fetchone() == (False,)
    other.close()
    catalog.close()


def test_a_young_heartbeat_refuses_the_switch(world: World) -> None:
    """Staging is allowed; the same command resumes once the services are quiet."""
    world.fill(6)
    plan, tables = world.plan(world.config("config", DB), world.config("dest", DB2)), world.tables()
    heartbeat(world, 20)
    with pytest.raises(ServicesRunningError, match=r"catalog on anchore-quickstart \(heartbeat \d+ s ago") as error:
        world.apply(plan, wait_for_services=0)
    assert error.value.exit_code == 11
    assert world.tables()["archive_metadata"] == tables["archive_metadata"]
    assert len(world.tables()["object_storage"]) == 6
    heartbeat(world, 151)
    assert world.apply(plan, wait_for_services=0).documents == 6


def test_a_heartbeat_that_advances_refuses_at_once(world: World) -> None:
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    heartbeat(world, 20)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(2):
            heartbeat(world, 0)

    service = threading.Thread(target=beat, daemon=True)
    service.start()
    with pytest.raises(ServicesRunningError):  # else it would be waited out, and the catalog switched
        world.apply(plan, wait_for_services=1000)
    over.set()
    service.join()


def test_a_service_that_starts_once_the_wait_is_over_refuses_the_switch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat is looked at again when nobody else can write the catalog any more (R4)."""
    world.fill(3)
    plan, tables = world.plan(world.config("config", DB), world.config("dest", DB2)), world.tables()
    quiet = order.wait_for_quiet

    def started(*arguments: Any) -> list[Heartbeat]:
        seen = quiet(*arguments)
        heartbeat(world, 1)
        return seen

    monkeypatch.setattr(order, "wait_for_quiet", started)
    with pytest.raises(ServicesRunningError, match="catalog on anchore-quickstart"):
        world.apply(plan)
    assert world.tables()["archive_metadata"] == tables["archive_metadata"]
    assert world.apply(plan, ignore_services=True).documents == 3


def test_a_clean_stop_a_moment_ago_is_waited_out(world: World) -> None:
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    heartbeat(world, 147)
    assert world.apply(plan).documents == 3
    (seen,) = world.sql("SELECT services_seen FROM reconcile_runs")
    assert "anchore-quickstart" in seen[0]


def test_services_can_be_ignored_by_those_who_know(world: World) -> None:
    world.fill(3)
    heartbeat(world, 0)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    assert world.apply(plan, ignore_services=True).documents == 3


_IN_A_LINE = """
import os, signal, sys
from reconcile.cli.prompt import controlled
from reconcile.errors import Interrupted
from reconcile.logs import configure, get_logger

class Stream:
    sent = False
    def __init__(self, stream): self.stream = stream
    def write(self, text):
        if not Stream.sent:
            Stream.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return self.stream.write(text)
    def flush(self): self.stream.flush()
    def isatty(self): return False

sys.stderr = Stream(sys.stderr)
configure("info", "json")
with controlled(quiet=False) as control:
    get_logger().info("batch staged")
    try: control.check()
    except Interrupted as error: print(error.message)
"""


def test_a_signal_in_the_midst_of_a_log_line_ends_the_run() -> None:
    """It would wait for itself to have written the line: a pod would be killed at the end of its grace time."""
    command = [sys.executable, "-c", _IN_A_LINE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "interrupted: the current batches were finished" in done.stdout
    assert "batch staged" in done.stderr
    assert done.stderr.count("stopping after the current batches") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_batch_in_hand(
    number: signal.Signals, code: int, folder: Path, database: str, moto: MotoServer
) -> None:
    world = World(folder, database)
    world.fill(300)
    place = Place(folder, database, moto)
    plan = world.plan(world.config("config", DB), world.config("dest", s3(moto, place.buckets[0])))
    tables = world.tables()
    command = ("nowhere", "apply", "p.json", "--yes", "--workers", "2")
    process = forks().start(KILLER, command, folder, CRASH_BATCH="5")
    deadline = time.monotonic() + 60
    while len(place.objects() if place._buckets_there() else ()) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _out, messages = process.communicate(timeout=300)
    assert process.returncode == code, messages
    assert "the same command resumes" in messages
    assert world.tables() == tables
    staged = world.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'")[0][0]
    assert 10 <= staged < 300
    assert len(place.objects()) == staged
    assert world.apply(plan).documents == 300


def test_an_old_executor_cannot_go_on(world: World) -> None:
    """Every write to the work tables checks the executor's token, which each new executor replaces."""
    from reconcile.errors import SupersededError
    from reconcile.running.record.executor import executing
    from reconcile.running.record.records import find_runs
    from reconcile.running.record.run import resume_run

    world.fill(3)
    world.sql("UPDATE archive_document SET jsondata = 'x', b64_encoded = %s", False)
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" <> 'sha256:0001'")
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    with pytest.raises(StageFailedError):
        world.apply(plan)
    catalog = connect(DatabaseOptions(url=Secret(world.url)))
    with executing(catalog, 1) as executor:
        old = resume_run(executor, find_runs(catalog)[0])
        with old.writing():
            pass
    with executing(catalog, 1), pytest.raises(SupersededError), old.writing():
        pass
    catalog.close()


def test_who_is_superseded_while_it_reads_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: reading may take minutes; another process may have taken over by then, finished, and been undone."""
    from reconcile.errors import SupersededError
    from reconcile.running.phases import stage_part

    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", localfs(world.folder / "archive")))
    encode = stage_part.encoded

    def superseded(*arguments: Any) -> Any:
        world.sql("UPDATE reconcile_runs SET epoch = epoch + 1")
        return encode(*arguments)

    monkeypatch.setattr(stage_part, "encoded", superseded)
    with pytest.raises(SupersededError):
        world.apply(plan)
    assert [path for path in (world.folder / "archive").rglob("*") if path.suffix == ".json"] == []


def test_status_says_what_to_type_next(world: World) -> None:
    world.fill(3)
    world.config("config", DB)
    assert "no run is recorded" in reconcile("status", "--source", "config.yaml", cwd=world.folder).out
    plan = world.plan(world.folder / "config.yaml", world.config("dest", DB2))
    world.apply(plan)
    said = reconcile("status", "--source", "config.yaml", cwd=world.folder)
    assert said.code == 0
    assert ": done" in said.out
    assert "staged   3 documents" in said.out
    assert "reconcile undo" in said.out
