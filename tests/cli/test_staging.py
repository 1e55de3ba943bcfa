"""Staging apart from the switch, in parts, at a rate: what the command line takes, says and exits with."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import data_of, filled, planned
from tests.cli.runner import Result, here
from tests.world import World


@pytest.fixture
def lite(folder: Path) -> World:
    world = filled(World(folder, new_sqlite(folder)))
    planned(world)
    return world


def apply(world: World, *options: str) -> Result:
    return here("apply", "p.json", "--yes", *options, cwd=world.folder)


def test_a_limit_ends_the_staging(lite: World) -> None:
    before = lite.urls()
    result = apply(lite, "--limit", "2")
    assert result.code == 12
    assert "staging was ended by --limit: 2 documents staged, which stay staged, and 4 still to stage" in result.err
    assert re.search(r"next: the same command resumes\n +reconcile verify .*# checks what is staged", result.err)
    assert apply(lite, "--max-bytes", "1").code == 12
    assert apply(lite, "--max-duration", "0s").code == 12
    assert lite.urls() == before
    assert apply(lite, "--max-rate", "1000").code == 0
    assert lite.urls() != before


def test_staging_alone_says_what_comes_next(lite: World) -> None:
    result = apply(lite, "--stage-only")
    assert result.code == 0
    assert "6 documents staged and confirmed; nothing was switched" in result.out
    assert "next: stop the services, then: reconcile apply p.json --refresh" in result.out
    lite.sql("UPDATE archive_metadata SET last_updated = 5 WHERE \"archiveId\" = 'sha256:0001'")
    result = apply(lite, "--stage-only")
    assert result.code == 0, result.all  # what is staged is not looked at again
    result = apply(lite)
    assert result.code == 4
    assert "--refresh    # includes them as they are now" in result.err
    result = apply(lite, "--refresh")
    assert result.code == 0
    assert "rows since the plan was made: 0 added, 1 changed, 0 deleted" in result.err


def test_as_json(lite: World) -> None:
    data = data_of(apply(lite, "--stage-only", "--format", "json"), "outcome")
    assert (data["switched"], data["documents"], data["services_config"]) == (False, 6, None)
    data = data_of(apply(lite, "--format", "json"), "outcome")
    assert (data["switched"], data["documents"]) == (True, 6)


@pytest.mark.parametrize(
    "options",
    [
        ("--until", "25:00"),
        ("--until", "soon"),
        ("--max-duration", "2 days"),
        ("--max-duration", ""),
        ("--max-bytes", "much"),
        ("--limit", "0"),
        ("--max-rate", "0"),
    ],
)
def test_limits_that_make_no_sense(lite: World, options: tuple[str, ...]) -> None:
    result = apply(lite, *options)
    assert result.code == 64, result.all
    assert options[0] in result.err


def test_until_a_time_of_day(lite: World) -> None:
    soon = datetime.now().astimezone() + timedelta(hours=1)
    assert apply(lite, "--until", f"{soon:%H:%M}").code == 0
