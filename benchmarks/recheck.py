"""The recheck before the switch on S3, beside a bare listing of the same objects.

    python -m benchmarks.recheck [DOCUMENTS]

Small documents are staged from driver db to a fresh server; then every copy is looked at, as `apply` does it while the
services are stopped. The bare listing asks for the same names, many prefixes at once, and compares nothing.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import psycopg2

from benchmarks.archive import BUCKETS, USERS
from benchmarks.report import RESULTS
from benchmarks.routes import servers
from benchmarks.spec import End, s3_client
from benchmarks.spent import server_seconds
from benchmarks.steps import FILL
from reconcile import verbs
from reconcile.catalog import DatabaseOptions, connect
from reconcile.control import Control, relaxed_gc
from reconcile.logs import configure
from reconcile.planning.planfile import PlanFile
from reconcile.running.phases.context import RunContext, StorePool, open_stores
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.stage import Stager
from reconcile.running.phases.switch import Switcher
from reconcile.running.record.executor import executing
from reconcile.running.record.records import find_runs
from reconcile.running.record.run import resume_run

_CONTENT = """
    INSERT INTO archive_document
    SELECT m.bucket, m."archiveId", m."userId", m."documentName", m.created_at, m.last_updated, 'active', NULL,
           n::text, false
    FROM generate_series(1, %s) n JOIN archive_metadata m ON m.digest = md5(n::text)
"""


def main(documents: int) -> None:
    """Stage, then recheck; print and save what it took."""
    configure("error")
    with servers() as (bench, what):
        url, folder = bench.postgresql.database(), bench.folder
        connection = psycopg2.connect(url)
        connection.cursor().execute(FILL, (documents,))
        connection.cursor().execute(_CONTENT, (documents,))
        connection.cursor().execute("UPDATE archive_metadata SET size = NULL")
        connection.commit()
        connection.close()
        dest = End("s3", "bench-recheck", bench.server.url, bench.server.access_key, bench.server.secret_key)
        s3_client(bench.server).create_bucket(Bucket=dest.bucket)
        source_path, dest_path = (_config(folder, url, end) for end in (End("db"), dest))
        plan = verbs.plan(source_path, dest_path, out=folder / "plan.json")
        verbs.apply(verbs.prepare(plan.path), options=RunOptions(stage_only=True))
        found = _recheck(plan) | _listing(dest, documents)
    ratio = round(found["seconds"] / found["bare_seconds"], 2)
    figures = {"documents": documents, "s3": what, "of bare's time": ratio} | found
    print(json.dumps(figures))  # noqa: T201
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"recheck-{documents}.json").write_text(json.dumps(figures, indent=1) + "\n")


def _config(folder: Path, url: str, end: End) -> Path:
    path = folder / f"{end.driver}.yaml"
    database = {"database": {"db_connect": url}}
    path.write_text(json.dumps({"credentials": database, "services": {"catalog": {"object_store": end.section()}}}))
    return path


def _recheck(plan: PlanFile) -> dict[str, float]:
    prepared = verbs.prepare(plan.path)
    catalog = connect(DatabaseOptions(), prepared.desired.source)
    options = RunOptions()
    with relaxed_gc(), executing(catalog, wait=15) as executor:  # as apply does
        run = resume_run(executor, find_runs(catalog)[0])
        stores = open_stores(run, StorePool.of(run, prepared.desired, options), create=False)
        context = RunContext(run, prepared.desired, stores, Control(), options.pipelines)
        before, started, cpu = server_seconds(), time.monotonic(), time.process_time()
        Switcher(context).recheck(Stager(context))
        seconds, used, after = time.monotonic() - started, time.process_time() - cpu, server_seconds()
    spent = {f"{kind}_seconds": round(after.get(kind, 0) - before.get(kind, 0), 2) for kind in ("postgresql", "s3")}
    return {"seconds": round(seconds, 2), "cpu_seconds": round(used, 2)} | spent


def _listing(dest: End, documents: int) -> dict[str, float]:
    """Ask for the names of all objects."""
    import obstore  # noqa: PLC0415

    store, prefixes = dest.objects(), ["/".join(names) for names in product(USERS, BUCKETS)]
    before, started = server_seconds(), time.monotonic()
    with ThreadPoolExecutor(len(prefixes)) as pool:
        found = sum(pool.map(lambda prefix: len(obstore.list(store, prefix).collect()), prefixes))
    seconds, after = time.monotonic() - started, server_seconds()
    if found != documents:
        raise ValueError(found)
    return {"bare_seconds": round(seconds, 2), "bare_s3_seconds": round(after.get("s3", 0) - before.get("s3", 0), 2)}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
