"""``make demo`` shows the main job, and what somebody played with in its folder stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def demo(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", folder / "demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout


def test_there_and_back_and_a_folder_of_its_own_each_time(folder: Path) -> None:
    first = demo(folder)
    sums = [line for line in first.splitlines() if line.startswith("504 of 504 documents readable, ")]
    assert len(sums) == 3
    assert len(set(sums)) == 1
    (folder / "demo" / "mine.json").write_text("played with")
    assert f"{folder}/demo-2 is left there" in demo(folder)
    assert (folder / "demo" / "mine.json").read_text() == "played with"
