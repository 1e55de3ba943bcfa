"""The folder of ``make demo``: a guide's test runs the demo itself."""

from __future__ import annotations

from pathlib import Path

from examples.demo import free


def test_what_somebody_played_with_stays(folder: Path) -> None:
    assert free(folder / "demo") == folder / "demo"
    (folder / "demo").mkdir()
    assert free(folder / "demo") == folder / "demo-2"
    (folder / "demo-2").mkdir()
    assert free(folder / "demo") == folder / "demo-3"
