"""Many small documents from end to end: a table to files by two worker processes, and back by an undo.

    python -m benchmarks.whole [DOCUMENTS [ENGINE]]

Documents are of 32 bytes to 6.3 KiB. After the apply every file is compared with its row's digest by code that is not
the tool's; after the undo the table is compared with what it was. Prints seconds and rates, and saves them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlparse

import psycopg2

from benchmarks.crowd import FILL_CATALOG, FILL_ROWS
from benchmarks.report import RESULTS
from benchmarks.spent import wal_bytes
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, localfs

_SUM = """
    SELECT count(*), sum(hashtextextended(concat_ws('/', d."userId", d.bucket, d."archiveId", d.jsondata, m.content_url,
        m.digest, m.size), 0)) FROM archive_document d JOIN archive_metadata m USING ("userId", bucket, "archiveId")
"""


def main(documents: int, engine: str) -> None:
    """Move them there and back."""
    server = PostgresServer(fsync=True)
    lines = ["| step | seconds | documents a second | WAL, MiB |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name:
        try:
            world = World(Path(name), server.database())
            world.sql(FILL_ROWS, documents)
            world.sql(FILL_CATALOG)
            world.sql("ANALYZE")
            before = world.sql(_SUM)
            world.config("config", DB)
            world.config("dest", localfs(Path(name) / "archive"))
            for step, command in (
                ("plan", ("plan", "config.yaml", "dest.yaml", "--out", "p.json")),
                ("apply", ("apply", "p.json", "--yes", "--engine", engine)),
                ("undo", ("undo", "p.undo.json", "--yes", "--engine", engine)),
            ):
                begun, wal = time.monotonic(), wal_bytes(world.url)
                program = (sys.executable, "-m", "reconcile", "--log-level", "error", *command)
                subprocess.run(program, cwd=name, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
                seconds, wal = time.monotonic() - begun, wal_bytes(world.url) - wal
                lines.append(f"| {step} | {seconds:,.0f} | {documents / seconds:,.0f} | {wal / 2**20:,.0f} |")
                print(lines[-1], flush=True)  # noqa: T201
                if step == "apply":
                    _compare(world, documents)
            if world.sql(_SUM) != before:
                sys.exit("the undo did not bring back what was there")
        finally:
            server.close()
    lines.append(
        f"\n{documents:,} documents, {engine}: every file was compared with its row, and the undone table too."
    )
    print(lines[-1])  # noqa: T201
    (RESULTS / f"whole-{documents}.md").write_text("\n".join(lines) + "\n")


def _compare(world: World, documents: int) -> None:
    connection = psycopg2.connect(world.url)
    cursor = connection.cursor("all")
    cursor.execute("SELECT content_url, digest FROM archive_metadata")
    right = 0
    for url, digest in cursor:
        right += hashlib.md5(Path(urlparse(url).path).read_bytes()).hexdigest() == digest  # noqa: S324
    connection.close()
    left = world.sql("SELECT count(*) FROM archive_document")
    if (right, left) != (documents, [(0,)]):
        sys.exit(f"{right:,} of {documents:,} files are right; {left[0][0]:,} sources are left")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    main(int(given.get(0, 2_000_000)), given.get(1, "processes:2"))
