"""What it takes to start: CPU seconds of ``reconcile --version``, and of a plan of an empty catalog.

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


def main() -> None:
    """Measure both, print the medians and save them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World(folder, new_sqlite(folder))
        configs = [str(world.config(name, section)) for name, section in (("config", DB), ("dest", DB2))]
        commands = {"--version": ["--version"], "empty plan": ["plan", *configs, "--out", "p.json"]}
        turns = {what: [_cpu(command, folder) for _turn in range(_TURNS)] for what, command in commands.items()}
    row = {what: round(median(seconds), 2) for what, seconds in turns.items()}
    print(json.dumps({"CPU seconds": row}))  # noqa: T201
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "start.json").write_text(json.dumps(row, indent=1) + "\n")


def _cpu(command: list[str], folder: Path) -> float:
    (folder / "p.json").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "reconcile", *command]
    subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
