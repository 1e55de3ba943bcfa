"""How many requests a store is sent at once: as many as it has workers; fewer, once it throttles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reconcile.logs import get_logger

_NARROWED_SECONDS = 1.0  # the answers to requests sent before it was narrowed say nothing new
_WIDENED_AFTER = 50  # requests served for each that may be under way: then one more may

log = get_logger()


class Gate:
    """Lets so many threads through at once, ``widest`` at first and at most. One that is inside may pass again."""

    def __init__(self, widest: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.width = widest
        self._widest = widest
        self._clock = clock
        self._inside = 0
        self._served = 0
        self._narrowed_at = -_NARROWED_SECONDS
        self._free = threading.Condition()
        self._local = threading.local()

    def __enter__(self) -> None:
        """Wait for a place, and hold it for the block."""
        depth: int = getattr(self._local, "depth", 0)
        if depth == 0:
            with self._free:
                while self._inside >= self.width:
                    self._free.wait()
                self._inside += 1
        self._local.depth = depth + 1

    def __exit__(self, *_error: object) -> None:
        self._local.depth -= 1
        if self._local.depth == 0:
            with self._free:
                self._inside -= 1
                self._widen()
                self._free.notify()

    def _widen(self) -> None:
        """Count one more served; let one more through after many."""
        if self.width == self._widest:
            return
        self._served += 1
        if self._served >= _WIDENED_AFTER * self.width:
            self.width, self._served = self.width + 1, 0

    def narrow(self) -> None:
        """Let half as many through from now on: the server throttles."""
        with self._free:
            now = self._clock()
            self._served = 0
            if now - self._narrowed_at < _NARROWED_SECONDS:
                return
            self._narrowed_at = now
            self.width = max(1, self.width // 2)
            log.warning("the server throttles; fewer requests are sent at once", requests=self.width)
