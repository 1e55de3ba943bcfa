"""The main job on an example archive, each command printed before it runs: a tutorial that you can watch.

    python -m examples.demo DIR

Leaves the folder there to play with. `docs/first-migration.md` goes on from there.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from pathlib import Path

from examples.build_archive import build

HERE = Path(__file__).parent


def say(*lines: str) -> None:
    """Print a remark between the commands."""
    print("", *(f"# {line}" for line in lines), sep="\n", flush=True)  # noqa: T201


def run(folder: Path, *command: str) -> None:
    """Print a command and run it in the folder; the demo ends where one fails."""
    print(f"\n$ {shlex.join(command)}", flush=True)  # noqa: T201
    program = {
        "reconcile": [sys.executable, "-m", "reconcile", "--log-level", "warning"],
        "python": [sys.executable],
    }[command[0]]
    # What the shell has for a real archive, its database above all, is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILE_")}
    subprocess.run([*program, *command[1:]], cwd=folder, env=environment, check=True)  # noqa: S603 - our own commands


def free(wanted: Path) -> Path:
    """Return the folder that is wanted, or one with a number: what somebody played with stays."""
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], numbered) if not path.exists())


def main() -> None:
    """Build, plan, show, apply, look, undo, look."""
    folder = free(Path(sys.argv[1]))
    reader = str((HERE / "service_reader.py").resolve())
    say(
        f"An example archive in {folder}: {build(folder)} documents, in an SQLite catalog with the services' tables.",
        "config.yaml is what the services have now (everything in driver db), dest-config.yaml what they shall have",
        "(files, and table object_storage for the analysis archive). A program that shares no code with reconcile",
        "reads every document as a service would, and gives a checksum over all:",
    )
    run(folder, "python", reader, "config.yaml")
    say("Plan: what leads from here to there? This writes nothing but the plan's file.")
    run(folder, "reconcile", "plan", "config.yaml", "dest-config.yaml", "--out", "plan.json")
    say("Show: review it, here as a page for the browser. It is made from the plan's file alone.")
    run(folder, "reconcile", "show", "plan.json", "--format", "html", "--out", "plan.html")
    say("Apply: copy and confirm every document, repoint the catalog in one transaction, delete the sources.")
    run(folder, "reconcile", "apply", "plan.json", "--yes")
    run(folder, "reconcile", "status", "--source", "config.yaml")
    say("Verify: every row leads to its document, and nothing else is in the stores.")
    run(folder, "reconcile", "verify", "dest-config.yaml", "--orphans")
    say("And as a service reads it with the new config:")
    run(folder, "python", reader, "dest-config.yaml")
    say("Report: what was done, for whoever asks later; --format html for a page.")
    run(folder, "reconcile", "report", "--source", "config.yaml")
    say("Undo: take it back, every row and every byte.")
    run(folder, "reconcile", "undo", "plan.undo.json", "--yes")
    run(folder, "reconcile", "verify", "config.yaml", "--orphans")
    say("As a service reads it with the old config; the checksum is the one from the beginning:")
    run(folder, "python", reader, "config.yaml")
    say(
        f"{folder} is left there to play with: open {folder}/plan.html in a browser, and",
        "docs/first-migration.md goes on from here.",
    )


if __name__ == "__main__":
    main()
