"""R1, R2, R3, R6 with workers that Dask's scheduler gives parts to, by mutual TLS: each is killed or stopped once."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.desk import data_of
from tests.cli.forks import Process, forks
from tests.cli.runner import KILLER, Result, reconcile
from tests.engines.test_processes import contents, is_moved, planned
from tests.servers.certificates import make_certificates
from tests.servers.dask import DaskCluster, tls_settings
from tests.servers.moto import MotoServer
from tests.world import DB, World, s3

DOCUMENTS = 60
STAGE = "reconcile.running.phases.stage"


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def archive(folder: Path, database: str, moto: MotoServer) -> World:
    """An archive whose destination takes its time."""
    world = World(folder, database)
    world.fill(DOCUMENTS)
    world.config("config", DB)
    world.config("dest", s3(moto, f"dask-{os.urandom(4).hex()}"))
    return world


def apply(world: World, cluster: DaskCluster, *more: str, **environment: str) -> Result:
    return reconcile(*command(cluster), *more, cwd=world.folder, **cluster.tls, **environment)


def work(world: World, cluster: DaskCluster) -> None:
    """Start a worker that has the database's address by its environment, and the configs where the plan has them."""
    cluster.work(world.folder, RECONCILE_DB_CONNECT=world.url)


def command(cluster: DaskCluster) -> tuple[str, ...]:
    return ("apply", "p.json", "--yes", "--engine", f"dask:{cluster.address}")


def begun(world: World, cluster: DaskCluster) -> Process:
    """Begin to apply by small parts; return the process once something is staged."""
    options = ("nowhere", *command(cluster), "--max-rate", "10")
    process = forks().start(KILLER, options, world.folder, CRASH_BATCH="2", **cluster.tls)
    wait_until(lambda: process.poll() is not None or world.sql("SELECT to_regclass('reconcile_moves')") != [(None,)])
    staged = "SELECT count(*) FROM reconcile_moves WHERE state = 'staged'"
    wait_until(lambda: process.poll() is not None or world.sql(staged)[0][0] > 5)
    assert process.poll() is None, process.communicate()[1]
    return process


def wait_until(holds: Callable[[], bool]) -> None:
    for _attempt in range(900):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to that")


def test_there_and_back_with_two_workers(archive: World, cluster: DaskCluster) -> None:
    before, truth = contents(archive), planned(archive)
    for _number in range(2):
        work(archive, cluster)
    done = apply(archive, cluster)
    assert done.code == 0, done.all
    is_moved(archive, truth)
    undone = reconcile(
        *("undo", "p.undo.json", "--yes", "--engine", f"dask:{cluster.address}"), cwd=archive.folder, **cluster.tls
    )
    assert undone.code == 0, undone.all
    assert contents(archive) == before
    assert listening(cluster.scheduler.pid) == [("127.0.0.1", cluster.port)]
    for worker in cluster.workers:
        assert [address for address, _port in listening(worker.pid)] == ["127.0.0.1"]
    for worker in cluster.workers:
        worker.terminate()
        assert worker.wait(30) == 0


def listening(pid: int) -> list[tuple[str, int]]:
    """Return addresses and ports that a process listens at, of IPv4 and IPv6."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.append((".".join(str(byte) for byte in bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.matrix)])
def test_a_worker_that_goes_on_the_way_costs_nothing(archive: World, cluster: DaskCluster, how: signal.Signals) -> None:
    """One that is stopped is given up after 30 s."""
    truth = planned(archive)
    for _number in range(2):
        work(archive, cluster)
    process = begun(archive, cluster)
    shown = reconcile("status", "--source", "config.yaml", cwd=archive.folder)
    assert f"engine   dask:{cluster.address}, 2 workers so far" in shown.out or "1 worker so far" in shown.out
    assert re.search(r"\n    \S+@\S+:\d+: \d+ documents?, \d+/s, last seen \d+ s ago", shown.out), shown.out
    document = data_of(reconcile("status", "--source", "config.yaml", "--format", "json", cwd=archive.folder), "status")
    assert document["workers"][0]["documents"] > 0
    cluster.workers[0].send_signal(how)
    process.wait(250)
    said = process.communicate()[1]
    assert process.returncode in ((0,) if how == signal.SIGKILL else (0, 10)), said
    if process.returncode == 10:  # its part was done by another, and its lock still stands
        assert "a worker is still working on a part of a run" in said
        assert archive.read(archive.folder / "config.yaml") == truth
        cluster.workers[0].kill()
        assert apply(archive, cluster).code == 0
    is_moved(archive, truth)


@pytest.mark.matrix
def test_a_scheduler_that_is_killed_is_told_of_and_the_same_command_resumes(
    archive: World, cluster: DaskCluster
) -> None:
    truth = planned(archive)
    work(archive, cluster)
    process = begun(archive, cluster)
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    assert process.wait(250) == 1
    said = process.communicate()[1]
    assert f"the scheduler at {cluster.address} is gone" in said
    assert archive.read(archive.folder / "config.yaml") == truth
    cluster.schedule()
    work(archive, cluster)
    done = apply(archive, cluster)
    assert done.code == 0, done.all
    is_moved(archive, truth)


@pytest.mark.matrix
def test_who_leads_is_killed_and_the_same_command_resumes(archive: World, cluster: DaskCluster) -> None:
    truth = planned(archive)
    work(archive, cluster)
    process = begun(archive, cluster)
    process.kill()
    process.wait()
    done = apply(archive, cluster)
    assert done.code == 0, done.all
    is_moved(archive, truth)


@pytest.mark.matrix
def test_a_worker_is_told_to_end_and_ends_what_it_has_in_hand(archive: World, cluster: DaskCluster) -> None:
    truth = planned(archive)
    for _number in range(2):
        work(archive, cluster)
    process = begun(archive, cluster)
    cluster.workers[0].terminate()
    assert cluster.workers[0].wait(60) == 0
    assert process.wait(250) == 0, process.communicate()[1]
    is_moved(archive, truth)


@pytest.mark.matrix
def test_a_worker_that_is_not_let_into_its_database_any_more_stages_nothing(
    archive: World, cluster: DaskCluster
) -> None:
    planned(archive)
    url, role = sa.make_url(archive.url), f"worker_{os.urandom(4).hex()}"
    archive.sql(f"CREATE ROLE {role} SUPERUSER LOGIN")
    cluster.work(
        archive.folder, RECONCILE_DB_CONNECT=url.set(username=role).render_as_string(), RECONCILE_DB_RETRIES="1"
    )
    wait_until(lambda: bool(listening(cluster.workers[0].pid)))
    archive.sql(f"ALTER ROLE {role} NOLOGIN")
    done = apply(archive, cluster)
    assert done.code == 1, done.all
    assert "(worker " in done.err
    assert "log in" in done.err
    assert archive.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'") == [(0,)]


def test_a_worker_without_a_database_ends_at_once(archive: World, cluster: DaskCluster) -> None:
    for environment, code in (({}, 78), ({"RECONCILE_DB_CONNECT": "postgresql://anchore@127.0.0.1:9/no"}, 1)):
        assert cluster.work(archive.folder, **environment, RECONCILE_DB_RETRIES="1").wait(60) == code
    assert "no database is given" in cluster.log("worker-0")
    assert "127.0.0.1:9" in cluster.log("worker-1")


def test_nobody_is_let_in_without_a_certificate_of_the_authority(archive: World, cluster: DaskCluster) -> None:
    planned(archive)
    work(archive, cluster)
    other = cluster.folder / "other"
    other.mkdir()
    theirs = tls_settings(*make_certificates(other))
    for settings, says in (
        ({}, "no certificate for it is named"),
        (theirs, "no scheduler answers there, or it does not let"),
    ):
        done = reconcile(*command(cluster), cwd=archive.folder, **settings)
        assert done.code == (78 if not settings else 1), done.all
        assert says in done.err
        assert archive.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'") == [(0,)]


def test_a_worker_needs_a_scheduler_and_certificates(folder: Path, tmp_path: Path) -> None:
    done = reconcile("worker", "--scheduler", "tls://127.0.0.1:9", cwd=folder)
    assert done.code == 78, done.all
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in done.err
    done = reconcile("worker", "--scheduler", "tcp://192.0.2.1:9", cwd=folder)
    assert done.code == 64, done.all
    done = reconcile("scheduler", "--listen", "tls://127.0.0.1:9", cwd=folder)
    assert done.code == 78, done.all
