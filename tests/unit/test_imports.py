"""How quickly and lightly the package is imported."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_is_light() -> None:
    heavy = {"boto3", "obstore", "sqlalchemy", "rich", "jsonschema", "swiftclient"}
    code = "import reconcile, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_a_move_within_the_database_loads_no_cloud_library() -> None:
    code = "import reconcile.verbs, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"boto3", "obstore", "swiftclient"} & set(loaded)


def test_planning_loads_nothing_that_runs_need() -> None:
    code = "import reconcile.cli.plan, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"reconcile.running.record.tables", "reconcile.verbs", "sqlalchemy.dialects.postgresql"} & set(loaded)
    assert not {"stamina", "tenacity", "rich.progress", "rich.live"} & set(loaded)
