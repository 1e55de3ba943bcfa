"""What is installed by those who have no checkout: sdist and wheel, and the wheel in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from reconcile import __version__

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.matrix
def test_sdist_and_wheel(tmp_path: Path) -> None:
    """The sdist gives the wheel that the checkout gives; alone in an environment it plans, applies and undoes."""
    build = (sys.executable, "-m", "build", "--outdir")
    run(*build, tmp_path / "dist", REPOSITORY, cwd=tmp_path)  # the wheel from the sdist
    run(*build, tmp_path / "straight", "--wheel", REPOSITORY, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (straight,) = (tmp_path / "straight").glob("*.whl")
    assert contents(wheel) == contents(straight)
    assert {name.partition("/")[0] for name in contents(wheel)} == {
        "reconcile",
        f"anchore_reconcile-{__version__}.dist-info",
    }
    assert {f"reconcile/schemas/{path.name}" for path in REPOSITORY.glob("schemas/*.json")} <= set(contents(wheel))

    empty = tmp_path / "env"
    venv.create(empty, with_pip=True)
    run(empty / "bin" / "pip", "install", "--quiet", wheel, cwd=tmp_path)
    reconcile, python, demo = empty / "bin" / "reconcile", empty / "bin" / "python", tmp_path / "demo"
    assert run(reconcile, "--version", cwd=tmp_path).strip() == f"reconcile, version {__version__}"
    assert "anchore_reconcile-" in run(reconcile, "drivers", cwd=tmp_path)
    run(python, REPOSITORY / "examples" / "build_archive.py", demo, cwd=tmp_path)
    run(reconcile, "plan", "config.yaml", "dest-config.yaml", "--out", "p.json", cwd=demo)
    run(reconcile, "show", "p.json", "--format", "html", "--out", "p.html", cwd=demo)
    assert "<script" in (demo / "p.html").read_text()
    run(reconcile, "apply", "p.json", "--yes", cwd=demo)
    assert "nothing is missing or wrong" in run(reconcile, "verify", "dest-config.yaml", "--orphans", cwd=demo)
    run(reconcile, "report", "--source", "config.yaml", "--format", "html", "--out", "r.html", cwd=demo)
    run(reconcile, "undo", "p.undo.json", "--yes", cwd=demo)
    assert "nothing is missing or wrong" in run(reconcile, "verify", "config.yaml", "--orphans", cwd=demo)
