"""moto's S3 server in a process of its own: quick, and lenient: it accepts any credentials."""

from __future__ import annotations

import subprocess
import sys

from tests.servers.ports import free_port, wait_for


class MotoServer:
    """An S3 endpoint on loopback."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.access_key, self.secret_key = "AKIDCANARY0123456789", "secret/canary+0123456789abcdef"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(port)

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait()
