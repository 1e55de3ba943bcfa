"""How staging grows with worker processes: a far server, files on this machine, and what an engine costs by itself.

    python -m benchmarks.engines

Each figure is a ratio to the same command without ``--engine``, measured in turn; staging alone. Saves a table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path
from statistics import median

from benchmarks.archive import fill
from benchmarks.latency import LatencyProxy
from benchmarks.report import RESULTS
from benchmarks.spec import End
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, localfs

_WORKERS = 4  # requests at once of each process
_TURNS = 3


def staged(world: World, *engine: str) -> float:
    """Apply with --stage-only; return documents a second from the first part to the last, and take the run back."""
    said = _reconcile(world, "apply", "p.json", "--yes", "--stage-only", "--keep-source", *engine)
    times = [json.loads(line) for line in said.splitlines() if '"batch staged"' in line]
    documents = sum(entry["documents"] for entry in times)
    first, last = (_seconds(entry["timestamp"]) for entry in (times[0], times[-1]))
    begun = first - times[0]["seconds"]
    subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            "reconcile",
            "undo",
            _run(world),
            "--yes",
            "--source",
            "config.yaml",
            "--dest",
            "dest.yaml",
        ],
        cwd=world.folder,
        env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
        capture_output=True,
        check=True,
    )
    return float(documents / (last - begun))


def _reconcile(world: World, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "reconcile", *arguments],
        cwd=world.folder,
        env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
        capture_output=True,
        text=True,
        check=True,
    ).stderr


def _run(world: World) -> str:
    return str(world.sql("SELECT run_id FROM reconcile_runs ORDER BY number DESC LIMIT 1")[0][0])


def _seconds(timestamp: str) -> float:
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(timestamp).timestamp()


def far(server: PostgresServer, milliseconds: int, documents: int, processes: tuple[int, ...]) -> Iterator[str]:
    """Yield how staging from the database to a server so far away grows with processes."""
    moto = MotoServer()
    proxy = LatencyProxy(moto.url, milliseconds)
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name), server.database())
        world.fill(documents)
        settings = {"bucket": "far", "create_bucket": True, "url": proxy.url, "access_key": "a", "secret_key": "b"}
        source, dest = (
            world.config("config", DB),
            world.config("dest", {"storage_driver": {"name": "s3", "config": settings}}),
        )
        world.plan(source, dest)
        alone = staged(world, "--workers", str(_WORKERS))
        yield f"| db to s3, {milliseconds} ms | this process | {alone:.0f} | 1 | |"
        one = None
        for number in processes:
            rate = staged(world, "--workers", str(_WORKERS), "--engine", f"processes:{number}")
            one = one or rate
            yield f"| | processes:{number} | {rate:.0f} | {rate / alone:.2f} | {rate / one / number:.2f} |"
    proxy.close()
    moto.close()


def near(server: PostgresServer, documents: int) -> Iterator[str]:
    """Yield what two processes are worth between data dirs, beside two bare copies and one."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name), server.database())
        root = Path(name) / "one"
        root.mkdir()
        fill(world.url, End("localfs", root=str(root)), documents, root)
        world.plan(
            world.config("config", localfs(root)), world.config("dest", localfs(Path(name) / "two")), keep_source=True
        )
        turns = [
            (
                staged(world),
                staged(world, "--engine", "processes:1"),
                staged(world, "--engine", "processes:2"),
                *bare(root),
            )
            for _turn in range(_TURNS)
        ]
        alone, one, two, copy, copies = (median(turn[index] for turn in turns) for index in range(5))
        yield f"| localfs to localfs | this process | {alone:.0f} | 1 | |"
        yield f"| | processes:1 | {one:.0f} | {one / alone:.2f} | |"
        yield f"| | processes:2 | {two:.0f} | {two / alone:.2f} | |"
        yield f"| bare copies of the same files | one process | {copy:.0f} | 1 | |"
        yield f"| | two processes | {copies:.0f} | {copies / copy:.2f} | |"


def bare(root: Path) -> tuple[float, float]:
    """Return files a second that one process and two copy and sync, with nothing else."""
    files = [str(path) for path in root.rglob("*.json")]
    found = []
    for number in (1, 2):
        shares = [files[part::number] for part in range(number)]
        begun = time.perf_counter()
        with Pool(number) as pool:
            pool.map(_copy, shares, chunksize=1)
        found.append(len(files) / (time.perf_counter() - begun))
        shutil.rmtree(root.parent / "bare")
    return found[0], found[1]


def _copy(files: list[str]) -> None:
    for file in files:
        there = Path(file.replace("/one/", "/bare/"))
        there.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(there, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, Path(file).read_bytes())
        os.fsync(descriptor)
        os.close(descriptor)


def main() -> None:
    """Measure, print and save."""
    server = PostgresServer(fsync=True)
    lines = ["| route | who stages | documents/s | times this process | of linear |", "| --- | --- | --- | --- | --- |"]
    parts: list[Callable[[], Iterator[str]]] = [
        lambda: far(server, 200, 1200, (1, 2, 4, 8)),
        lambda: far(server, 50, 2400, (1, 2, 4, 8)),
        lambda: near(server, 6000),
    ]
    try:
        print("\n".join(lines), flush=True)  # noqa: T201
        for part in parts:
            for line in part():
                print(line, flush=True)  # noqa: T201
                lines.append(line)
    finally:
        server.close()
    (RESULTS / "engines.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
