"""A process of the command line that stops (SIGSTOP) at a named point, loses its sessions, and goes on later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define

from tests.archives import query
from tests.cli.forks import Process, forks
from tests.cli.runner import KILLER

REPOSITORY = Path(__file__).parents[2]
_PATIENCE_SECONDS = 120


@define
class Paused:
    """The stopped process."""

    process: Process
    url: str

    def end_sessions(self) -> None:
        """End its sessions at the database, as its time-outs or an administrator would."""
        query(
            self.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reconcile'"
            " AND datname = current_database() AND pid <> pg_backend_pid()",
        )

    def resume(self) -> tuple[int, str]:
        """Let it go on to its end; return exit code and what it said."""
        os.kill(self.process.pid, signal.SIGCONT)
        _out, err = self.process.communicate(timeout=_PATIENCE_SECONDS)
        return self.process.returncode, err

    def kill(self) -> None:
        """Kill it where it stands."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def paused(point: str, url: str, *arguments: str | Path, life: int = 3) -> Iterator[Paused]:
    """Run the command line until it stops at the point. ``life`` is of a deleting request, in seconds."""
    process = forks().start(KILLER, [point, *arguments], REPOSITORY, CRASH_SIGNAL="SIGSTOP", CRASH_LIFE=str(life))
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while _state(process.pid) != "T":
            assert process.poll() is None, f"it ended before {point!r}: {process.communicate()[1]}"
            assert time.monotonic() < deadline, f"it never came to {point!r}"
            time.sleep(0.05)
        yield Paused(process, url)
    finally:
        process.kill()
        process.wait()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
