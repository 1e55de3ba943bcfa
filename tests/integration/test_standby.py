"""R1: no source is deleted before every streaming standby has received the switch."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile.catalog import standby as waiting
from reconcile.errors import CatalogError
from tests.servers.postgresql import PostgresServer
from tests.world import DB, DB2, World

pytestmark = pytest.mark.matrix


@pytest.fixture
def standby(postgresql: PostgresServer) -> Iterator[PostgresServer]:
    server = PostgresServer(origin=postgresql, standby=True)
    yield server
    server.close()


def receiver(world: World, standby: PostgresServer) -> int:
    """Return the process that receives for the standby."""
    while not world.sql("SELECT client_port FROM pg_stat_replication WHERE state = 'streaming'"):
        time.sleep(0.05)
    while True:
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                is_receiver = path.name.isdigit() and b"walreceiver" in (path / "cmdline").read_bytes()
                if is_receiver and (path / "cwd").readlink() == standby.data:
                    return int(path.name)


def test_clean_waits_for_the_standby(folder: Path, database: str, standby: PostgresServer) -> None:
    world = World(folder, database)
    world.fill(6)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    pid = receiver(world, standby)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waiting, "STANDBY_SECONDS", 1)
            with pytest.raises(CatalogError, match="has not received the switch") as error:
                world.apply(plan)
        assert "no source was deleted" in error.value.message
        assert world.sql("SELECT count(*) FROM archive_document") == [(6,)]
        assert len(world.read(dest)) == 6
        timer = threading.Timer(1, os.kill, (pid, signal.SIGCONT))
        timer.start()
        world.apply(plan)
        assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_role_that_may_not_see_standbys_is_told(
    folder: Path, database: str, postgresql: PostgresServer, standby: PostgresServer
) -> None:
    from reconcile.catalog import DatabaseOptions, connect
    from reconcile.secret import Secret

    world = World(folder, database)
    receiver(world, standby)
    postgresql.run("postgres", "DROP ROLE IF EXISTS plain")
    postgresql.run("postgres", "CREATE ROLE plain LOGIN")
    name = database.rpartition("/")[2]
    catalog = connect(DatabaseOptions(url=Secret(postgresql.url(name, "plain"))))
    said: list[str] = []
    waiting.wait_for_standbys(catalog, said.append, lambda: None)
    catalog.close()
    assert "GRANT pg_monitor" in said[0]
