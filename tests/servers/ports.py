"""Free ports on loopback, and waiting until something answers there."""

from __future__ import annotations

import random
import socket
import time

_BELOW = 32768  # from here on the system gives a port to every client that connects to anything


def free_port(count: int = 1) -> int:
    """Return the first of ``count`` neighbouring ports that are free now, and that no client is given meanwhile."""
    chosen = random.Random()  # not the seeded one: each worker of the suite needs ports of its own
    while True:
        first = chosen.randrange(10000, _BELOW - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(port: int, seconds: float = 300) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
