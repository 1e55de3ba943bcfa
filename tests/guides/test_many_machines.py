"""docs/many-machines.md: the trial on one machine, word for word, but for the port."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.moto import MotoServer
from tests.servers.ports import free_port
from tests.world import DB, World, s3

PAGE = (Path(__file__).parents[2] / "docs" / "many-machines.md").read_text()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_trial_of_many_machines_on_one(folder: Path, database: str, moto: MotoServer) -> None:
    world = World(folder, database)
    world.fill(30)
    config, dest = world.config("config", DB), world.config("dest-config", s3(moto, "many-machines"))
    truth = world.read(config)
    script = "set -e\n" + "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL))
    done = subprocess.run(
        ["bash", "-c", script.replace(":8786", f":{free_port()}")],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": sys.path[0]},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "30 documents moved" in done.stdout, done.stdout + done.stderr
    assert world.read(dest) == truth
    assert world.sql("SELECT sum(documents) FROM reconcile_workers") == [(30,)]
