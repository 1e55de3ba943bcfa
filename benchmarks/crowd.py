"""Many workers, and one of each kind killed on the way: worker, scheduler, leading process, its lock's session.

    python -m benchmarks.crowd [DOCUMENTS [WORKERS]]

Moves documents from the database to an S3 server by workers of Dask on this machine. After each loss the same command
is typed again. At the end every object is compared with its row. Prints what became of each attempt, and saves it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import RESULTS
from benchmarks.spec import End
from tests.servers.dask import DaskCluster
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, s3

FILL_ROWS = """
    INSERT INTO archive_document (bucket, "archiveId", "userId", "documentName", created_at, last_updated,
        record_state_key, jsondata, b64_encoded)
    SELECT 'analysis_data', 'sha256:' || md5(n::text), 'admin', 'sha256:' || md5(n::text) || '.json', 1700000000,
        1700000000, 'active', repeat(md5(n::text), 1 + n %% 200), false FROM generate_series(1, %s) n
"""
FILL_CATALOG = """
    INSERT INTO archive_metadata (bucket, "archiveId", "userId", "documentName", content_url, is_compressed, digest,
        size, created_at, last_updated, record_state_key)
    SELECT bucket, "archiveId", "userId", "documentName", concat_ws('/', 'db:/', "userId", bucket, "archiveId"), false,
        md5(jsondata), length(jsondata), 1700000000, 1700000000, 'active' FROM archive_document
"""
_STAGED = "SELECT count(*) FROM reconcile_moves WHERE state = 'staged'"
_BUCKET = "crowd"


def main(documents: int, workers: int) -> None:
    """Move them, with a loss at each fifth of the way."""
    server, moto = PostgresServer(fsync=True), MotoServer()
    lines = ["| attempt | ended by | exit | staged by then | seconds |", "| --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = DaskCluster(folder)
        try:
            world = World(folder, server.database())
            world.sql(FILL_ROWS, documents)
            world.sql(FILL_CATALOG)
            world.config("config", DB)
            world.plan(folder / "config.yaml", world.config("dest", s3(moto, _BUCKET)))
            for _number in range(workers):
                cluster.work(folder, RECONCILE_DB_CONNECT=world.url)
            ways: list[tuple[str, Callable[[subprocess.Popen[str]], None]]] = [
                ("a worker, kill -9", lambda _process: cluster.workers[0].kill()),
                ("the scheduler, kill -9", lambda _process: _restart(cluster, world, workers)),
                ("the leading process, kill -9", lambda process: process.kill()),
                ("the session of its lock", lambda _process: _end_lock(world)),
            ]
            todo = list(enumerate(ways, 1))
            while True:
                begun, ended_by = time.monotonic(), "nothing"
                process = _begin(world, cluster)
                while todo and process.poll() is None:
                    number, (what, harm) = todo[0]
                    if _reached(world, documents * number // 5):
                        harm(process)
                        todo.pop(0)
                        ended_by = what
                        if what.startswith("a worker"):
                            continue
                        break
                    time.sleep(0.5)
                code = process.wait()
                lines.append(
                    f"| {len(lines) - 1} | {ended_by} | {code} | {_count(world):,} | {time.monotonic() - begun:.0f} |"
                )
                print(lines[-1], flush=True)  # noqa: T201
                if code == 0:
                    break
            lines.append(
                f"\nwrong or missing: {_wrong(world, moto)}; sources left: {_sources(world)}; documents: {documents:,}"
            )
        finally:
            cluster.close()
            moto.close()
            server.close()
    print("\n".join(lines))  # noqa: T201
    (RESULTS / "crowd.md").write_text("\n".join(lines) + "\n")


def _begin(world: World, cluster: DaskCluster) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reconcile", "--log-level", "error", "apply", "p.json", "--yes"]
    with (world.folder / "apply.log").open("a") as log:
        return subprocess.Popen(  # noqa: S603
            [*command, "--engine", f"dask:{cluster.address}"],
            cwd=world.folder,
            env=os.environ | cluster.tls,
            stdout=log,
            stderr=log,
            text=True,
        )


def _restart(cluster: DaskCluster, world: World, workers: int) -> None:
    """Kill the scheduler, and start it again with workers, as a supervisor would."""
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    cluster.schedule()
    for _number in range(workers):
        cluster.work(world.folder, RECONCILE_DB_CONNECT=world.url)


def _end_lock(world: World) -> None:
    world.sql("SELECT pg_terminate_backend(session) FROM reconcile_executors WHERE ended_at IS NULL")


def _has_moves(world: World) -> bool:
    return world.sql("SELECT to_regclass('reconcile_moves')") != [(None,)]


def _reached(world: World, number: int) -> bool:
    return _has_moves(world) and _count(world) >= number


def _count(world: World) -> int:
    return int(world.sql(_STAGED)[0][0]) if _has_moves(world) else 0


def _sources(world: World) -> int:
    return int(world.sql("SELECT count(*) FROM archive_document")[0][0])


def _wrong(world: World, moto: MotoServer) -> int:
    """Return how many rows do not lead to an object with their digest."""
    end = End("s3", _BUCKET, moto.url, moto.access_key, moto.secret_key)
    client = end.client()
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET):
        for item in page.get("Contents", ()):
            found[f"s3://{_BUCKET}/{item['Key']}"] = item["ETag"].strip('"')
    rows = world.sql("SELECT content_url, digest FROM archive_metadata")
    return sum(found.get(url) != digest for url, digest in rows)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [100_000, 4][len(numbers) :]))
