"""Dask on loopback with TLS: a scheduler and workers, each a process of the command line's own verbs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers.certificates import make_certificates
from tests.servers.ports import free_port, wait_for

_SIDES = ("SCHEDULER", "WORKER", "CLIENT")


def tls_settings(authority: Path, pair: Path) -> dict[str, str]:
    """Return Dask's variables for a certificate authority, and a file with a key and a certificate."""
    settings = {"CA_FILE": authority} | {f"{side}__{what}": pair for side in _SIDES for what in ("KEY", "CERT")}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items()}


class DaskCluster:
    """A scheduler, and as many workers as are started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tls = tls_settings(*make_certificates(folder))
        self.port = free_port()
        self.address = f"tls://127.0.0.1:{self.port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.schedule()

    def schedule(self) -> subprocess.Popen[bytes]:
        """Start the scheduler, at the port that it always has."""
        self.scheduler = self._reconcile("scheduler", "--listen", self.address, log="scheduler")
        wait_for(self.port)
        return self.scheduler

    def work(self, cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker with two threads."""
        name = f"worker-{len(self.workers)}"
        worker = self._reconcile(
            *("worker", "--scheduler", self.address, "--threads", "2", *arguments), log=name, cwd=cwd, **environment
        )
        self.workers.append(worker)
        return worker

    def log(self, name: str) -> str:
        """Return what the scheduler or a worker said."""
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        """End all."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _reconcile(
        self, *arguments: str, log: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "reconcile", *arguments],
                cwd=cwd,
                env=os.environ | self.tls | environment,
                stdout=file,
                stderr=file,
            )
