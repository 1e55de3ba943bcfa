"""Run the command line in a process of its own, as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from attrs import frozen


@frozen
class Result:
    """What a command left: exit code, results, logs and messages."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


def reconcile(*arguments: str | Path, cwd: Path, **environment: str) -> Result:
    """Run ``reconcile`` with these arguments and additional environment variables."""
    done = subprocess.run(
        [sys.executable, "-m", "reconcile", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)
