"""What it takes to start: CPU seconds of ``reconcile --version``, of a plan of an empty catalog, and of its libraries.

python -m benchmarks.start
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.report import RESULTS
from tests.archives import new_sqlite
from tests.world import DB, DB2, World

_TURNS = 5
_LIBRARIES = "import attrs, click, jsonschema, sqlalchemy.dialects.sqlite, structlog, yaml"  # that every plan loads


def main() -> None:
    """Measure both, print the medians and save them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World(folder, new_sqlite(folder))
        configs = [str(world.config(name, section)) for name, section in (("config", DB), ("dest", DB2))]
        commands = {
            "--version": ["-m", "reconcile", "--version"],
            "empty plan": ["-m", "reconcile", "plan", *configs, "--out", "p.json"],
            "libraries alone": ["-c", _LIBRARIES],
        }
        turns: dict[str, list[float]] = {what: [] for what in commands}
        for _turn in range(_TURNS):
            for what, command in commands.items():
                turns[what].append(_cpu(command, folder))
    row = {what: round(median(seconds), 2) for what, seconds in turns.items()}
    print(json.dumps({"CPU seconds": row}))  # noqa: T201
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "start.json").write_text(json.dumps(row, indent=1) + "\n")


def _cpu(command: list[str], folder: Path) -> float:
    (folder / "p.json").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
