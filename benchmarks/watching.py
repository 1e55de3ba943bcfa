"""What it costs to be watched: a run with events and metrics beside the same run without, in CPU seconds.

python -m benchmarks.watching [DOCUMENTS]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import RESULTS
from tests.archives import new_sqlite
from tests.world import DB, World, localfs

_PAIRS = 5
_WATCHED = ("--events", "e.jsonl", "--metrics-file", "m.prom")


def main() -> None:
    """Measure pairs of a run there and its undo, print the medians and their ratio, and save them."""
    documents = int(sys.argv[1]) if sys.argv[1:] else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World(folder, new_sqlite(folder))
        world.fill(documents)
        configs = [
            str(world.config(name, section)) for name, section in (("config", DB), ("dest", localfs(folder / "a")))
        ]
        _cpu(folder, "plan", *configs, "--out", "p.json")
        turns: dict[str, list[float]] = {"alone": [], "watched": []}
        for pair in range(_PAIRS):
            for how in ("alone", "watched") if pair % 2 else ("watched", "alone"):
                more = _WATCHED if how == "watched" else ()
                there = _cpu(folder, "apply", "p.json", "--yes", *more)
                turns[how].append(there + _cpu(folder, "undo", "p.undo.json", "--yes", *more))
        ratios = [watched / alone for alone, watched in zip(turns["alone"], turns["watched"], strict=True)]
        row: dict[str, Any] = {
            "documents": documents,
            **{how: round(median(seconds), 2) for how, seconds in turns.items()},
            "ratio": round(median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }
    print(json.dumps({"CPU seconds, there and back": row}))  # noqa: T201
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "watching.json").write_text(json.dumps(row, indent=1) + "\n")


def _cpu(folder: Path, *arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "reconcile", "--quiet", *arguments]
    subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
