"""The main job on an example archive, each command printed before it runs: a tutorial that you can watch.

    python -m examples.demo DIR

Leaves the folder there to play with.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from examples.build_archive import build

HERE = Path(__file__).parent


def say(text: str) -> None:
    """Print a remark between the commands."""
    print(f"\n# {text}", flush=True)  # noqa: T201


def run(folder: Path, *command: str) -> None:
    """Print a command and run it in the folder; the demo ends where one fails."""
    print(f"\n$ {shlex.join(command)}", flush=True)  # noqa: T201
    program = {
        "reconcile": [sys.executable, "-m", "reconcile", "--log-level", "warning"],
        "python": [sys.executable],
    }[command[0]]
    subprocess.run([*program, *command[1:]], cwd=folder, check=True)  # noqa: S603 - our own commands


def main() -> None:
    """Build, plan, show, apply, read, undo, read."""
    folder = Path(sys.argv[1])
    if folder.exists() and not (folder / "anchore.db").exists():
        sys.exit(f"{folder} exists and is not a demo folder; name another: make demo DEMO=folder")
    shutil.rmtree(folder, ignore_errors=True)
    reader = str((HERE / "service_reader.py").resolve())
    say(f"An example archive in {folder}: an SQLite catalog with the services' tables; config.yaml is what the")
    say("services have now (everything in driver db), dest-config.yaml what they shall have.")
    print(f"\n{build(folder)} documents", flush=True)  # noqa: T201
    run(folder, "python", reader, "config.yaml")
    say("Plan: what leads from here to there? This writes nothing but the plan's file.")
    run(folder, "reconcile", "plan", "config.yaml", "dest-config.yaml", "--out", "plan.json")
    say("Show: review it, from the file alone.")
    run(folder, "reconcile", "show", "plan.json")
    say("Apply: copy and confirm every document, repoint the catalog in one transaction, delete the sources.")
    run(folder, "reconcile", "apply", "plan.json", "--yes")
    say("Every document as a service reads it with the new config:")
    run(folder, "python", reader, "dest-config.yaml")
    run(folder, "reconcile", "status", "--source", "config.yaml")
    say("Undo: take it back.")
    run(folder, "reconcile", "undo", "plan.undo.json", "--yes")
    say("Every document as a service reads it with the old config; the checksum is the one from the beginning:")
    run(folder, "python", reader, "config.yaml")
    say(f"{folder} is left there to play with: cd {folder}")


if __name__ == "__main__":
    main()
