"""The steps that touch the catalog alone, beside the bare statement: plan, load of the plan, switch.

    python -m benchmarks.steps [--max-wal-size SIZE] [DOCUMENTS [STEP...]]

The catalog's rows lead to driver db and shall go to s3; no content is there, none is read. Prints a table, saves it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.contender import peak_mib
from benchmarks.report import RESULTS
from benchmarks.spec import End
from benchmarks.spent import wal_bytes
from tests.servers.postgresql import PostgresServer

FILL = """
    INSERT INTO archive_metadata
    SELECT (ARRAY['analysis_data', 'image_content_data', 'policy_evaluations'])[1 + n %% 3], 'sha256:' || h || h,
           (ARRAY['admin', 'team-a'])[1 + n %% 2], 'sha256:' || h || h || '.json',
           concat_ws('/', 'db:/', (ARRAY['admin', 'team-a'])[1 + n %% 2],
             (ARRAY['analysis_data', 'image_content_data', 'policy_evaluations'])[1 + n %% 3], 'sha256:' || h || h),
           false, h, 1000 + n %% 30000, NULL, 1700000000, 1700000000, 'active', NULL
    FROM (SELECT n, md5(n::text) AS h FROM generate_series(1, %s) n) rows
"""
_ROWS = """
    SELECT "userId", bucket, "archiveId", "documentName", content_url, is_compressed, digest, size, last_updated
    FROM archive_metadata
    ORDER BY "userId" COLLATE "C", bucket COLLATE "C", "archiveId" COLLATE "C", "documentName" COLLATE "C"
"""
_STAGED = """
    UPDATE reconcile_moves SET state = 'staged', origin = 'written', after_is_compressed = false,
           after_digest = before_digest, after_size = before_size
"""
_BARE_SWITCH = """
    UPDATE archive_metadata a SET content_url = m.after_url, is_compressed = m.after_is_compressed,
           digest = m.after_digest, size = m.after_size
    FROM reconcile_moves m
    WHERE a."userId" = m.user_id AND a.bucket = m.bucket AND a."archiveId" = m.archive_id
      AND a."documentName" = m.document_name
"""


_DEFAULT_WAL = "1GB"  # PostgreSQL's own


class _Nowhere:
    """A file that forgets."""

    def write(self, data: bytes) -> int:
        """Take it."""
        return len(data)


def main(documents: int, steps: list[str], max_wal_size: str) -> None:
    """Measure the steps, each in a process of its own; a step needs those before it."""
    server = PostgresServer(fsync=True)
    rows = []
    try:
        server.run("postgres", f"ALTER SYSTEM SET max_wal_size = '{max_wal_size}'")
        server.run("postgres", "SELECT pg_reload_conf()")
        with tempfile.TemporaryDirectory() as folder:
            url = server.database()
            _sql(url, "ALTER TABLE archive_metadata SET (autovacuum_enabled = off)")
            connection = psycopg2.connect(url)
            connection.cursor().execute(FILL, (documents,))
            connection.commit()
            connection.close()
            _sql(url, "VACUUM ANALYZE archive_metadata")
            for step in steps:
                command = [sys.executable, "-m", "benchmarks.steps", "--step", step, url, folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
                row = {"step": step, "documents": documents, "max_wal_size": max_wal_size} | json.loads(done.stdout)
                row["database_mib"] = _number(url, "SELECT pg_database_size(current_database())") / 2**20
                row["of bare's time"] = round(row["seconds"] / row["bare_seconds"], 2)
                rows.append(row)
                print(json.dumps(row), flush=True)  # noqa: T201
    finally:
        server.close()
    RESULTS.mkdir(exist_ok=True)
    name = f"steps-{documents}" + f"-{max_wal_size}" * (max_wal_size != _DEFAULT_WAL)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def measure(step: str, url: str, folder: Path) -> dict[str, float]:
    """Do one step both ways; return seconds, and of ours peak memory, the plan's size and the WAL."""
    from reconcile.logs import configure  # noqa: PLC0415

    configure("error")
    return {"plan": _plan, "load": _load, "switch": _switch}[step](url, folder)


def _plan(url: str, folder: Path) -> dict[str, float]:
    from reconcile import verbs  # noqa: PLC0415

    paths = []
    for name, end in (("source", End("db")), ("dest", End("s3", "bench", "http://127.0.0.1:9", "key", "secret"))):
        path = folder / f"{name}.yaml"
        database = {"database": {"db_connect": url}}
        path.write_text(json.dumps({"credentials": database, "services": {"catalog": {"object_store": end.section()}}}))
        paths.append(path)
    seconds, cpu = _timed(lambda: verbs.plan(paths[0], paths[1], out=folder / "plan.json"))
    peak = peak_mib()
    connection = psycopg2.connect(url)
    bare, _cpu = _timed(lambda: connection.cursor().copy_expert(f"COPY ({_ROWS}) TO STDOUT", _Nowhere()))
    size = (folder / "plan.json").stat().st_size
    return {"seconds": seconds, "cpu_seconds": cpu, "bare_seconds": bare, "peak_mib": peak, "plan_mib": size / 2**20}


def _load(url: str, folder: Path) -> dict[str, float]:
    from reconcile import verbs  # noqa: PLC0415
    from reconcile.catalog import DatabaseOptions, connect  # noqa: PLC0415
    from reconcile.control import relaxed_gc  # noqa: PLC0415
    from reconcile.planning.planner import new_id  # noqa: PLC0415
    from reconcile.running.phases.load import checked_batches  # noqa: PLC0415
    from reconcile.running.record.executor import executing  # noqa: PLC0415
    from reconcile.running.record.run import begin_run  # noqa: PLC0415
    from reconcile.running.record.tables import create_work_tables  # noqa: PLC0415

    prepared = verbs.prepare(folder / "plan.json")
    plan, desired = prepared.plan, prepared.desired
    assert plan is not None  # noqa: S101
    catalog = connect(DatabaseOptions(), desired.source)
    create_work_tables(catalog)
    wal = wal_bytes(url)
    with relaxed_gc(), executing(catalog, wait=15) as executor:  # as apply does
        seconds, cpu = _timed(
            lambda: begin_run(
                executor,
                new_id(),
                plan,
                "",
                lambda _connection: checked_batches(plan, desired),
                configs={},
                keep_source=False,
            )
        )
    wal, peak = wal_bytes(url) - wal, peak_mib()
    _sql(url, "CREATE TABLE bare_moves (LIKE reconcile_moves INCLUDING ALL) WITH (fillfactor = 50)")
    connection = psycopg2.connect(url)
    with (folder / "moves").open("w+b") as file:
        connection.cursor().copy_expert("COPY reconcile_moves TO STDOUT", file)
        file.seek(0)
        bare, _cpu = _timed(
            lambda: connection.cursor().copy_expert("COPY bare_moves FROM STDIN", file), connection.commit
        )
    (folder / "moves").unlink()
    _sql(url, "DROP TABLE bare_moves")
    return {"seconds": seconds, "cpu_seconds": cpu, "bare_seconds": bare, "peak_mib": peak, "wal_mib": wal / 2**20}


def _switch(url: str, folder: Path) -> dict[str, float]:
    from reconcile import verbs  # noqa: PLC0415
    from reconcile.catalog import DatabaseOptions, Scope, connect  # noqa: PLC0415
    from reconcile.control import Control  # noqa: PLC0415
    from reconcile.running.phases.context import RunContext  # noqa: PLC0415
    from reconcile.running.phases.switch import Switcher  # noqa: PLC0415
    from reconcile.running.record.executor import executing  # noqa: PLC0415
    from reconcile.running.record.records import find_runs  # noqa: PLC0415
    from reconcile.running.record.run import resume_run  # noqa: PLC0415

    _sql(url, _STAGED, "VACUUM ANALYZE reconcile_moves")
    connection = psycopg2.connect(url)
    cursor = connection.cursor()
    cursor.execute("SET enable_nestloop = off")
    bare, _cpu = _timed(lambda: cursor.execute(_BARE_SWITCH), connection.rollback)
    connection.close()
    _sql(url, "VACUUM ANALYZE archive_metadata")
    desired = verbs.prepare(folder / "plan.json").desired
    catalog = connect(DatabaseOptions(), desired.source)
    wal = wal_bytes(url)
    with executing(catalog, wait=15) as executor:
        lock = executor.lock
        assert lock is not None  # noqa: S101
        run = resume_run(executor, find_runs(catalog)[0])
        switcher = Switcher(RunContext(run, desired, {}, Control(), 1))
        seconds, cpu = _timed(lambda: switcher.switch(lock, Scope(), limited=False, ignore_services=False))
    wal = wal_bytes(url) - wal
    return {
        "seconds": seconds, "cpu_seconds": cpu, "bare_seconds": bare, "peak_mib": peak_mib(), "wal_mib": wal / 2**20
    }  # fmt: skip


def _timed(*work: Callable[[], Any]) -> tuple[float, float]:
    started, cpu = time.monotonic(), time.process_time()
    for part in work:
        part()
    return time.monotonic() - started, time.process_time() - cpu


def _number(url: str, query: str) -> int:
    connection = psycopg2.connect(url)
    cursor = connection.cursor()
    cursor.execute(query)
    row = cursor.fetchone()
    connection.close()
    return int(row[0]) if row else 0


def _sql(url: str, *statements: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


if __name__ == "__main__":
    if "--step" in sys.argv:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], Path(sys.argv[4]))))  # noqa: T201
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--max-wal-size", default=_DEFAULT_WAL, help="the server's setting; its default is 1GB")
        parser.add_argument("documents", type=int, nargs="?", default=1_000_000)
        parser.add_argument("steps", nargs="*", default=["plan", "load", "switch"])
        options = parser.parse_args()
        main(options.documents, options.steps, options.max_wal_size)
