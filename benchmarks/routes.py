"""The routes, side by side: this tool, the serial reference, the bare ceiling, peers, in turn on the same documents.

python -m benchmarks.routes [--repeat N] [--documents N] [--workers N] [ROUTE...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from attrs import evolve, frozen

from benchmarks import peers
from benchmarks.archive import fill, put_all
from benchmarks.ceph import endpoint
from benchmarks.latency import LatencyProxy
from benchmarks.report import save, show
from benchmarks.spec import End, Spec, s3_client
from benchmarks.spent import server_seconds, wal_bytes
from tests.servers.postgresql import PostgresServer

LATENCY_MS = 20
SERIAL_DOCUMENTS = 500  # a sample of the same archive: each document costs it the same


@frozen
class Route:
    """A route, and how much it is measured with. ``bare_workers`` None: as many as the tool takes."""

    source: str
    dest: str
    documents: int = 20_000
    latency: bool = False
    compressed: bool = False
    workers: int = 0
    bare_workers: int = 2
    has_peers: bool = False  # programs that move objects can be measured on it

    @property
    def name(self) -> str:
        """What the table calls it."""
        more = f", {LATENCY_MS} ms" * self.latency + ", compressed" * self.compressed
        return f"{self.source} to {self.dest}{more}"

    def has(self, who: str) -> bool:
        """Tell whether a contender can be measured on it."""
        if who == "least":
            return "s3" in (self.source, self.dest)
        return self.has_peers or who not in peers.PEERS


ROUTES = (
    Route("db", "db2"),
    Route("db", "s3", 5_000, bare_workers=32),
    Route("db2", "s3", 5_000, bare_workers=32),
    Route("db", "s3", 5_000, latency=True, bare_workers=32),
    Route("s3", "s3", 5_000, bare_workers=32, has_peers=True),
    Route("localfs", "s3", 5_000, bare_workers=32, has_peers=True),
    Route("s3", "localfs", 5_000, bare_workers=32, has_peers=True),
    Route("db", "localfs"),
    Route("localfs", "localfs"),
    Route("s3", "db2", 5_000, bare_workers=32),
    Route("db", "s3", 5_000, compressed=True, bare_workers=32),
    Route("db", "localfs", compressed=True),
)


@frozen
class Archive:
    """A route's archive as it is before each turn: a database to copy, and the files of a data dir."""

    database: str
    source: End
    folder: Path
    files: Path | None


@frozen
class Bench:
    """The servers that everything runs on."""

    postgresql: PostgresServer
    server: Any
    far: LatencyProxy
    folder: Path

    def measure(self, route: Route, repeat: int, who: tuple[str, ...]) -> dict[str, Any]:
        """Let every contender have its turns; return the medians."""
        found: dict[str, list[dict[str, float]]] = {name: [] for name in who}
        with self._archive(route) as archive:
            for _turn in range(repeat):
                for name in who:
                    if route.has(name):
                        found[name].append(self._turn(route, archive, name))
        return {"route": route.name} | {
            name: {key: median(turn[key] for turn in turns) for key in turns[0]}
            for name, turns in found.items()
            if turns
        }

    def _turn(self, route: Route, archive: Archive, who: str) -> dict[str, float]:
        with self._fresh(route, archive) as whole:
            spec = evolve(whole, workers=route.bare_workers if who in ("bare", "least") else route.workers)
            if who == "serial":
                spec = evolve(spec, documents=min(SERIAL_DOCUMENTS, route.documents))
            command = [sys.executable, "-m", "benchmarks.contender", who]
            before, wal = server_seconds(), wal_bytes(spec.url)
            done = subprocess.run(command, input=msgspec.json.encode(spec), check=True, stdout=subprocess.PIPE)  # noqa: S603
            after = server_seconds()
            spent = {kind: after.get(kind, 0.0) - before.get(kind, 0.0) for kind in ("postgresql", "s3")}
            figures: dict[str, float] = msgspec.json.decode(done.stdout)
            figures |= {"postgresql_seconds": spent["postgresql"], "s3_seconds": spent["s3"]}
            figures["wal_bytes"] = wal_bytes(spec.url) - wal
            print(route.name, who, {k: round(v, 2) for k, v in figures.items()}, file=sys.stderr, flush=True)  # noqa: T201
            return figures

    @contextmanager
    def _archive(self, route: Route) -> Iterator[Archive]:
        """Fill a database once for a route; what lies elsewhere is laid anew for each turn."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        database = self.postgresql.database()
        source = self._end(route.source, route, folder)
        root = folder / "original" if route.source == "localfs" else None
        try:
            fill(database, source, route.documents, root)
            yield Archive(database.rpartition("/")[2], source, folder, root)
        finally:
            self._drop_database(database)

    @contextmanager
    def _fresh(self, route: Route, archive: Archive) -> Iterator[Spec]:
        """Make a fresh copy of the archive for one turn; take it away afterwards, but for files.

        Files stay at a destination until the end of all, and buckets as long as the server: Ceph was seen to hang while
        one was emptied. ext4 passes over the inodes of files that were deleted lately, so
        that clearing up after one turn would slow the next one.
        """
        folder = Path(tempfile.mkdtemp(dir=archive.folder))
        source, dest = archive.source, self._end(route.dest, route, folder)
        database = self.postgresql.copy_of(archive.database)
        with ExitStack() as stack:
            stack.callback(self._drop_database, database)
            for end in (source, dest):
                if end.driver == "s3":
                    s3_client(self.server).create_bucket(Bucket=end.bucket)
            if source.driver == "s3":
                put_all(source, route.documents)
            if archive.files is not None:  # the files are only ever deleted, so that links do
                shutil.copytree(archive.files, source.root, copy_function=os.link)
                stack.callback(shutil.rmtree, source.root)
            subprocess.run(["/bin/sync"], check=True)
            yield Spec(database, source, evolve(dest, compressed=route.compressed), route.documents, 0, str(folder))

    def _end(self, driver: str, route: Route, folder: Path) -> End:
        name = f"bench-{uuid.uuid4().hex}"
        if driver == "s3":
            url = self.far.url if route.latency else self.server.url
            return End(driver, name, url, self.server.access_key, self.server.secret_key)
        return End(driver, root=str(folder / name) if driver == "localfs" else "")

    def _drop_database(self, url: str) -> None:
        self.postgresql.run("postgres", f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@contextmanager
def servers() -> Iterator[tuple[Bench, str]]:
    """Start every server, in memory and empty; stop them at the end."""
    with ExitStack() as stack:

        def opened(make: Callable[[], Any]) -> Any:  # noqa: ANN401
            server = make()
            stack.callback(server.close)
            return server

        postgresql = opened(lambda: PostgresServer(fsync=True))
        server, what = endpoint()
        stack.callback(server.close)
        _warm(server)
        far = opened(lambda: LatencyProxy(server.url, LATENCY_MS))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="reconcile-bench-"))
        yield Bench(postgresql, server, far, Path(folder)), what


def _warm(server: Any) -> None:  # noqa: ANN401
    """Have Ceph make its pools, which takes more than a second of the first request for an object: nobody's turn."""
    client, here = s3_client(server), {"Bucket": "bench-warm", "Key": "first"}
    client.create_bucket(Bucket=here["Bucket"])
    client.put_object(**here, Body=b"")
    client.get_object(**here)
    client.delete_object(**here)


def main() -> None:
    """Measure the routes that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--documents", type=int, help="instead of each route's own number")
    parser.add_argument("--workers", type=int, default=0, help="instead of the store's default")
    parser.add_argument(
        "--who",
        nargs="+",
        help="ours, two, blind, serial, bare, least, rclone, s5cmd, aws; by default all but two, blind",
    )
    parser.add_argument("routes", nargs="*", help="as the table names them; all by default")
    options = parser.parse_args()
    chosen = [route for route in ROUTES if not options.routes or route.name in options.routes]
    who = options.who or ["ours", "serial", "bare", "least", *peers.PEERS]
    there = peers.install() if set(who) & set(peers.PEERS) else []
    who = tuple(name for name in who if name in there or name not in peers.PEERS)
    for route in chosen:
        sized = evolve(route, documents=options.documents or route.documents, workers=options.workers)
        with servers() as (bench, what):
            save(bench.measure(sized, options.repeat, who), {"s3": what, "turns": options.repeat})
    show([route.name for route in chosen])


if __name__ == "__main__":
    main()
