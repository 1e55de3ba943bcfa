"""R1, R2, R5, R6 under kills at random moments of random phases: some rounds here, hundreds in ``make soak``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.archives import Place, new_sqlite
from tests.integration.test_equal_to_vendor import documents
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, World, localfs, s3

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


def run_until_killed(world: World, seconds: float, *arguments: str) -> int:
    """Run a command, and kill it after so many seconds unless it ends before; return its exit code."""
    command = [sys.executable, "-m", "reconcile", "--log-level", "error", *arguments, "--yes", "--workers", "2"]
    process = subprocess.Popen(command, cwd=world.folder, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@pytest.mark.parametrize("kind", ["postgresql-s3", "sqlite-localfs"])
@pytest.mark.timeout(100 + 60 * ROUNDS)
def test_kills_at_random_moments(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    chance = random.Random(SEED)
    on_postgresql = kind.startswith("postgresql")
    world = World(folder, request.getfixturevalue("database") if on_postgresql else new_sqlite(folder))
    for number in range(250):
        world.add(f"{number:04}", os.urandom(chance.randrange(3000)), bucket=f"bucket-{number % 3}")
    source = world.config("config", DB)
    there = Place(folder, world.url, request.getfixturevalue("moto") if on_postgresql else None)
    moto: MotoServer = request.getfixturevalue("moto") if on_postgresql else None
    section = s3(moto, there.buckets[0]) if on_postgresql else localfs(there.data_dir)
    dest = world.config("dest", COMPRESSED | section)
    truth, before = documents(source), world.tables()
    world.plan(source, dest)
    started = time.monotonic()
    world.apply("p.json")
    full = time.monotonic() - started + 1.0  # and what it takes to start
    world.undo()
    assert world.tables() == before

    kills = 0
    for round_number in range(ROUNDS):
        for arguments in (("apply", "p.json"), ("undo", "p.undo.json")):
            for _attempt in range(20):
                code = run_until_killed(world, chance.uniform(0.5, full), *arguments)
                assert truth in (documents(source), documents(dest)), f"seed {SEED}, round {round_number}"
                kills += code == -9
                if code == 0:
                    break
                assert code in (-9, 1), f"seed {SEED}: exit {code}"  # 1: no undo plan yet
            else:
                assert run_until_killed(world, 100, *arguments) == 0, f"seed {SEED}"
        assert world.tables() == before, f"seed {SEED}, round {round_number}"
        assert not there.objects(), f"seed {SEED}, round {round_number}"
    print(f"{kind}: {ROUNDS} rounds, {kills} kills, seed {SEED}")  # noqa: T201 - for make soak
