"""R1, R2, R5, R6 under kills and pauses at random moments of random phases: a round here, an hour in ``make soak``.

A process that is paused loses its database sessions, another one runs the same command, and then the first goes on.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.archives import Place, new_sqlite
from tests.cli.forks import Process, forks
from tests.cli.runner import KILLER
from tests.integration.test_equal_to_vendor import documents
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, World, localfs, s3

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))  # rounds go on for so long
ENGINE = os.environ.get("SOAK_ENGINE", "")  # such as processes:3: its workers go on while who leads them is paused
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


KILLED, PAUSED = -9, -19


def begun(world: World, *arguments: str) -> Process:
    """Begin a command; requests that delete live for 2 seconds in it."""
    options = ["--log-level", "error", *arguments, "--yes", "--workers", "2"]
    environment = {"CRASH_LIFE": "2", "CRASH_BATCH": "50"}
    if ENGINE and world.url.startswith("postgresql"):
        environment["RECONCILE_ENGINE"] = ENGINE
    return forks().start(KILLER, ["nowhere", *options], world.folder, session=True, **environment)


def run_until_killed(world: World, seconds: float, *arguments: str) -> tuple[int, str]:
    """Run a command, and kill it after so many seconds unless it ends before; return exit code and messages."""
    process = begun(world, *arguments)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(), process.stderr.read()


def run_until_paused(world: World, seconds: float, *arguments: str) -> tuple[int, str]:
    """Run a command, stop it after so many seconds, run it by another process, and let the first one go on."""
    process = begun(world, *arguments)
    try:
        return process.wait(seconds), process.stderr.read()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGSTOP)
    try:
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reconcile'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        second = begun(world, *arguments)
        code = second.wait(200)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        process.wait(200)
    return code if code == 0 else PAUSED, second.stderr.read()


@pytest.mark.parametrize("kind", [pytest.param("postgresql-s3", marks=pytest.mark.matrix), "sqlite-localfs"])
@pytest.mark.timeout(200 + 60 * ROUNDS + 2 * SECONDS)
def test_kills_at_random_moments(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    chance = random.Random(SEED)
    on_postgresql = kind.startswith("postgresql")
    world = World(folder, request.getfixturevalue("database") if on_postgresql else new_sqlite(folder))
    world.add_all(
        (f"{number:04}", os.urandom(chance.randrange(3000)), "admin", f"bucket-{number % 3}") for number in range(250)
    )
    source = world.config("config", DB)
    there = Place(folder, world.url, request.getfixturevalue("moto") if on_postgresql else None)
    moto: MotoServer = request.getfixturevalue("moto") if on_postgresql else None
    section = s3(moto, there.buckets[0]) if on_postgresql else localfs(there.data_dir)
    dest = world.config("dest", COMPRESSED | section)
    truth, before = documents(source), world.tables()
    world.plan(source, dest)
    started = time.monotonic()
    world.apply("p.json")
    full = time.monotonic() - started + 0.5  # and what it takes to start
    world.undo()
    assert world.tables() == before

    kills = pauses = round_number = 0
    began = time.monotonic()
    while round_number < ROUNDS or time.monotonic() - began < SECONDS:
        round_number += 1
        for arguments in (("apply", "p.json"), ("undo", "p.undo.json")):
            for _attempt in range(20):
                pause = on_postgresql and chance.random() < 0.4
                run = run_until_paused if pause else run_until_killed
                code, said = run(world, chance.uniform(0.1, full), *arguments)
                assert truth in (documents(source), documents(dest)), f"seed {SEED}, round {round_number}"
                kills, pauses = kills + (code == KILLED), pauses + pause
                if code == 0:
                    break
                assert code in (KILLED, PAUSED, 1, 10), f"seed {SEED}: exit {code}: {said}"  # 1: no undo plan yet
            else:
                code, said = run_until_killed(world, 100, *arguments)
                assert code == 0, f"seed {SEED}: {said}"
        assert world.tables() == before, f"seed {SEED}, round {round_number}"
        assert not there.objects(), f"seed {SEED}, round {round_number}"
        if there.marks():  # of a process that was stopped, and went on after all was over: the next run takes it away
            world.apply("p.json")
            world.undo()
        assert not there.marks(), f"seed {SEED}, round {round_number}"
    took = time.monotonic() - began
    print(f"{kind}: {round_number} rounds, {kills} kills, {pauses} pauses, {took:.0f} s, seed {SEED}")  # noqa: T201
