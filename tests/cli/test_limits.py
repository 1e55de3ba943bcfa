"""``--max-bandwidth`` and ``--limits-file``: they reach what copies, and bad ones reach nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconcile.control import RateLimit
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.cli.runner import here
from tests.world import World, localfs

MIB = 1 << 20


@pytest.fixture
def lite(folder: Path) -> World:
    world = filled(World(folder, new_sqlite(folder)))
    world.config("dest", localfs(folder / "archive"))
    planned(world)
    return world


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, int]]:
    """The rate and the amount of every wait."""
    seen = list[tuple[float | None, int]]()

    def wait(self: RateLimit, amount: int, _check: Callable[[], None]) -> None:
        seen.append((self._rate(), amount))

    monkeypatch.setattr(RateLimit, "wait", wait)
    return seen


@pytest.mark.parametrize("by_file", [False, True])
def test_every_byte_is_held_for_there_and_back(
    lite: World, held: list[tuple[float | None, int]], by_file: bool
) -> None:
    (lite.folder / "limits.yaml").write_text("max_rate: 7\nmax_bandwidth: 3MiB\nworkers: 2\n")
    options = ("--limits-file", "limits.yaml") if by_file else ("--max-bandwidth", "3MiB", "--max-rate", "7")
    size = lite.sql("SELECT sum(size) FROM archive_metadata")[0][0]
    for command in (("apply", "p.json"), ("undo", "p.undo.json")):
        assert here(*command, "--yes", *options, cwd=lite.folder).code == 0
        assert sum(amount for rate, amount in held if rate == 3 * MIB) == size
        assert sum(amount for rate, amount in held if rate == 7) >= 6
        held.clear()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-bandwidth", "fast"), "is not a size a second"),
        (("--max-bandwidth", "8:00=1M 25:00=off"), "not a size a second or a timetable"),
        (("--limits-file", "none.yaml"), "none.yaml: No such file"),
        (("--limits-file", "bad.yaml"), "max_rate, max_bandwidth, workers, and nothing else"),
    ],
)
def test_bad_input_changes_nothing(lite: World, options: tuple[str, ...], said: str) -> None:
    (lite.folder / "bad.yaml").write_text("bandwidth: 5MiB\n")
    result = here("apply", "p.json", "--yes", *options, cwd=lite.folder)
    assert (result.code, said in result.err) == (64, True), result.err
    assert here("runs", "--source", "config.yaml", cwd=lite.folder).out.startswith("no run")
