"""The way of one document through the code: how many files and functions it passes, and how often the file changes.

    python -m benchmarks.trace

Moves one document from SQLite to a data dir by ``apply`` with one worker, and counts calls of the package's functions.
A change of file is a call of a function in another file than the call before it, whatever thread makes it.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import click

import reconcile
from reconcile import verbs
from reconcile.logs import configure
from reconcile.running.phases import order
from reconcile.running.phases.options import RunOptions
from tests.archives import new_sqlite
from tests.world import DB, World, localfs

_PACKAGE = str(Path(reconcile.__file__).parent)
_TRANSACTIONS = f"{_PACKAGE}/catalog/connect.py"


class Trace:
    """The calls of the package's functions, in their order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call. For ``sys.setprofile``."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE) and not code.co_name.startswith("<"):
            self.calls.append((code.co_filename, code.co_qualname))

    def describe(self) -> dict[str, Any]:
        """Return the counts."""
        files = [file for file, _name in self.calls]
        first = self.calls.index((order.__file__, "Phases.execute"))
        return {
            "files": len(set(files)),
            "functions": len(set(self.calls)),
            "calls": len(self.calls),
            "changes_of_file": _changes(files),
            "of_these_into_and_out_of_transactions": sum(
                before != after and _TRANSACTIONS in (before, after) for before, after in pairwise(files)
            ),
            "changes_before_the_first_phase": _changes(files[:first]),
        }


def _changes(files: list[str]) -> int:
    return sum(before != after for before, after in pairwise(files))


def main() -> None:
    """Trace one document, and print the counts."""
    configure("error")
    with tempfile.TemporaryDirectory() as folder:
        home, trace = Path(folder), Trace()
        world = World(home, new_sqlite(home))
        world.add("sha256:0001", b"document")
        world.plan(world.config("config", DB), world.config("dest", localfs(home / "archive")), str(home / "p.json"))
        threading.setprofile(trace.note)
        sys.setprofile(trace.note)
        verbs.apply(verbs.prepare(home / "p.json"), options=RunOptions(workers=1))
        sys.setprofile(None)
        threading.setprofile(None)
    for name, number in trace.describe().items():
        click.echo(f"{name:<40}{number:>6}")


if __name__ == "__main__":
    main()
