"""Did a change make documents dearer? Calls a document of this tree and of another commit, whatever the machine does.

    python -m benchmarks.check [COMMIT]

Counts the calls of functions, Python's and the libraries', of an apply in all its threads, at two sizes: what is more
at the larger one is what its documents cost. On a busy machine the figure is the same within a few percent. Exits with
1 where a route has grown by more than a tenth since the commit, by default the last one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

import click

from reconcile import verbs
from reconcile.logs import configure
from reconcile.running.phases.options import RunOptions
from tests.archives import new_sqlite
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, World, localfs, s3

_ROUTES = ("db to db2", "db to localfs", "localfs to localfs", "db to s3")
_FEW, _MANY = 100, 600
_MAY_GROW = 1.1


def measure() -> dict[str, float]:
    """Return the calls a document, by route."""
    configure("error")
    server = MotoServer()
    try:
        found = {route: [_calls(route, documents, server) for documents in (_FEW, _MANY)] for route in _ROUTES}
        return {route: (many - few) / (_MANY - _FEW) for route, (few, many) in found.items()}
    finally:
        server.close()


def _calls(route: str, documents: int, server: MotoServer) -> int:
    """Return the calls of an apply of so many documents."""
    source, _to, dest = route.split()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sections = {"db": DB, "db2": DB2, "localfs": localfs(home / dest), "s3": s3(server, f"check-{documents}")}
        world = World(home, new_sqlite(home))
        world.fill(documents)
        here = world.config("config", DB)
        if source != "db":
            there = world.config(source, localfs(home / "first"))
            world.apply(world.plan(here, there, "first.json"))
            here = there
        plan = world.plan(here, world.config("dest", sections[dest]))
        prepared = verbs.prepare(plan.path)
        counts: Counter[str] = Counter()

        def note(_frame: FrameType, event: str, _argument: object) -> None:
            counts[event] += 1

        threading.setprofile(note)
        sys.setprofile(note)
        verbs.apply(prepared, options=RunOptions(workers=1))
        sys.setprofile(None)
        threading.setprofile(None)
        return counts["call"] + counts["c_call"]


def _of(commit: str) -> dict[str, float]:
    """Return what another commit's tree takes, measured by this very file."""
    with tempfile.TemporaryDirectory() as folder:
        tree = subprocess.run(["git", "archive", commit], check=True, capture_output=True).stdout  # noqa: S603, S607
        subprocess.run(["tar", "-x", "-C", folder], input=tree, check=True)  # noqa: S603, S607
        (Path(folder) / "benchmarks" / "check.py").write_bytes(Path(__file__).read_bytes())
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.check", "--measure"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder},
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    """Compare, and print the table."""
    if sys.argv[1:] == ["--measure"]:
        click.echo(json.dumps(measure()))
        return
    commit = sys.argv[1] if sys.argv[1:] else "HEAD"
    before, now = _of(commit), measure()
    click.echo(f"{'calls a document':<22}{commit:>12}{'here':>8}")
    for route, calls in now.items():
        click.echo(f"{route:<22}{before[route]:>12.0f}{calls:>8.0f}")
    if any(calls > before[route] * _MAY_GROW for route, calls in now.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
