"""Peak memory of moving one large document, by route, above that of moving a small one by the same route.

    python -m benchmarks.large [MIB_OF_FILES] [MIB_IN_DATABASE]

Each apply runs in a process of its own, on real PostgreSQL and on Swift with its s3api; peak memory is that process's
high-water mark. The document is checked by a reader that shares no code with the tool. Prints a table and
saves it as JSON in ``benchmarks/results/large.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from examples.service_reader import read_all
from tests.archives import query
from tests.servers.postgresql import PostgresServer
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3, swift

RESULTS = Path(__file__).parent / "results" / "large.json"
ROUTES = (
    ("localfs", "s3"),
    ("s3", "swift"),
    ("swift", "localfs"),
    ("localfs", "db2"),
    ("db2", "db"),
    ("db", "localfs"),
)
_APPLY = """
import resource, sys, time
from pathlib import Path
from reconcile import verbs
from reconcile.logs import configure
configure("error")
started = time.monotonic()
verbs.apply(verbs.prepare(Path(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() - started)
"""


def main(files_mib: int, database_mib: int) -> None:
    """Measure every route and print the table."""
    postgresql, server = PostgresServer(), SwiftServer()
    rows = []
    try:
        for source, dest in ROUTES:
            mib = database_mib if {"db", "db2"} & {source, dest} else files_mib
            small, _seconds = _measure(source, dest, 1 << 14, postgresql, server)
            large, seconds = _measure(source, dest, mib << 20, postgresql, server)
            row = {
                "route": f"{source} to {dest}",
                "document_mib": mib,
                "small_peak_mib": round(small / 1024),
                "large_peak_mib": round(large / 1024),
                "above_per_size": round((large - small) / 1024 / mib, 2),
                "seconds": round(seconds, 1),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)  # noqa: T201
    finally:
        server.close()
        postgresql.close()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def _measure(source: str, dest: str, size: int, postgresql: PostgresServer, server: SwiftServer) -> tuple[int, float]:
    """Move one document of this size; return the peak in KiB and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), postgresql.database())
        digest = _add(world, size)
        sections: dict[str, Callable[[], dict[str, Any]]] = {
            "db": lambda: DB,
            "db2": lambda: DB2,
            "localfs": lambda: localfs(world.folder / "archive"),
            "s3": lambda: s3(server, f"bench-{uuid.uuid4().hex}"),
            "swift": lambda: swift(server, f"bench-{uuid.uuid4().hex}"),
        }
        start = world.config("start", localfs(world.folder / "start"))
        here, there = world.config("source", sections[source]()), world.config("dest", sections[dest]())
        _apply(world.plan(start, here, "setup.json").path)
        peak, seconds = _apply(world.plan(here, there, "p.json").path)
        if size < 1 << 20:  # the independent reader holds a document in memory
            for data in read_all(there).values():
                assert isinstance(data, bytes)  # noqa: S101
                assert hashlib.md5(data).hexdigest() == digest  # noqa: S101, S324
        assert query(world.url, "SELECT digest, size FROM archive_metadata") == [(digest, size)]  # noqa: S101
        return peak, seconds


def _apply(plan: Path) -> tuple[int, float]:
    done = subprocess.run([sys.executable, "-c", _APPLY, str(plan)], check=True, capture_output=True, text=True)  # noqa: S603
    peak, seconds = done.stdout.split()
    return int(peak), float(seconds)


def _add(world: World, size: int) -> str:
    """Put a document of half compressible bytes into the data dir that everything starts from."""
    user, archive_id = hashlib.md5(b"admin").hexdigest(), hashlib.md5(b"large").hexdigest()  # noqa: S324
    path = world.folder / "start" / user / "images" / archive_id[:2] / f"{archive_id}.json"
    path.parent.mkdir(parents=True)
    digest = hashlib.md5()  # noqa: S324
    with path.open("wb") as file:
        for piece in _pieces(size):
            digest.update(piece)
            file.write(piece)
    row: dict[str, Any] = {"content_url": f"file://{path}", "digest": digest.hexdigest(), "size": size}
    world.row("large", b"", bucket="images", **row)
    return digest.hexdigest()


def _pieces(size: int) -> Iterator[bytes]:
    while size > 0:
        piece = (os.urandom(1 << 13) + bytes(1 << 13))[:size]
        size -= len(piece)
        yield piece


if __name__ == "__main__":
    main(*[int(argument) for argument in sys.argv[1:]] or [1024, 256])
