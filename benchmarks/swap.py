"""Two ways to lead many catalog rows elsewhere: one UPDATE, and a second table that takes the first one's place.

    python -m benchmarks.swap [ROWS]

A trial for docs/scale.md: nothing of the second way is in the product. Prints and saves a table.
"""

from __future__ import annotations

import sys
import time

import psycopg2

from benchmarks.report import RESULTS
from benchmarks.spent import wal_bytes
from benchmarks.steps import FILL
from tests.servers.postgresql import PostgresServer

_MOVES = """
    CREATE TABLE moves AS SELECT "userId", bucket, "archiveId", "documentName",
        concat_ws('/', 's3://archive', "userId", bucket, "archiveId") AS after_url, digest, size FROM archive_metadata
"""
_UPDATE = """
    UPDATE archive_metadata a SET content_url = m.after_url, is_compressed = false, digest = m.digest, size = m.size
    FROM moves m WHERE a."userId" = m."userId" AND a.bucket = m.bucket AND a."archiveId" = m."archiveId"
      AND a."documentName" = m."documentName"
"""
_BUILD = [
    "CREATE TABLE built (LIKE archive_metadata INCLUDING DEFAULTS INCLUDING STORAGE)",
    """
    INSERT INTO built
    SELECT a.bucket, a."archiveId", a."userId", a."documentName", coalesce(m.after_url, a.content_url),
        a.is_compressed, a.digest, a.size, a.document_metadata, a.created_at, a.last_updated, a.record_state_key,
        a.record_state_val
    FROM archive_metadata a LEFT JOIN moves m ON a."userId" = m."userId" AND a.bucket = m.bucket
      AND a."archiveId" = m."archiveId" AND a."documentName" = m."documentName"
    """,
    'ALTER TABLE built ADD PRIMARY KEY (bucket, "archiveId", "userId", "documentName")',
    "ANALYZE built",
]
_SWAP = [
    "ALTER TABLE archive_metadata RENAME TO archive_metadata_before",
    "ALTER TABLE built RENAME TO archive_metadata",
]


def main(rows: int) -> None:
    """Measure both ways on databases of their own."""
    server = PostgresServer(fsync=True)
    lines = ["| way | rows | seconds | of these with services down | WAL, MiB |", "| --- | --- | --- | --- | --- |"]
    try:
        for way, online, offline in (("one UPDATE", [], [_UPDATE]), ("a table that is swapped", _BUILD, _SWAP)):
            url = server.database()
            connection = psycopg2.connect(url)
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("ALTER TABLE archive_metadata SET (autovacuum_enabled = off)")
            cursor.execute(FILL, (rows,))
            cursor.execute(_MOVES)
            cursor.execute("VACUUM ANALYZE archive_metadata")
            cursor.execute("ANALYZE moves")
            cursor.execute("CHECKPOINT")
            before, begun = wal_bytes(url), time.perf_counter()
            for statement in online:
                cursor.execute(statement)
            down = time.perf_counter()
            cursor.execute("BEGIN")
            for statement in offline:
                cursor.execute(statement)
            cursor.execute("COMMIT")
            ended = time.perf_counter()
            wal = (wal_bytes(url) - before) >> 20
            lines.append(f"| {way} | {rows:,} | {ended - begun:.1f} | {ended - down:.2f} | {wal:,} |")
            connection.close()
    finally:
        server.close()
    print("\n".join(lines))  # noqa: T201
    (RESULTS / "swap.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
