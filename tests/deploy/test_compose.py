"""``deploy/compose``: each service's command line, run with its own folders, against a real archive."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from tests.archives import new_sqlite
from tests.deploy.cluster import BIN, REPOSITORY
from tests.world import DB, World, localfs

COMPOSE = REPOSITORY / "deploy" / "compose" / "compose.yaml"


def test_each_service_does_what_it_says(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    before = world.tables()
    world.config("config", DB)
    world.config("dest-config", localfs(folder / "archive"))
    (folder / "work").mkdir()
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    mounts = {}
    for mount in services["reconcile-plan"]["volumes"]:
        here, there = mount.split(":")[:2]
        mounts[there] = str(folder / here)
    for name in ("check", "plan", "stage", "switch", "verify", "undo"):
        service = services[f"reconcile-{name}"]
        assert service["read_only"]
        words = [
            next((here + word[len(there) :] for there, here in mounts.items() if word.startswith(there)), word)
            for word in service["command"]
        ]
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", **service["environment"]}
        done = subprocess.run(
            ["reconcile", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        if name == "switch":
            assert {url.partition(":")[0] for url in world.urls()} == {"file"}
    assert world.tables()["archive_metadata"] == before["archive_metadata"]
    assert world.tables()["archive_document"] == before["archive_document"]
