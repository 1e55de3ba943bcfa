"""What Swift's proxy needs of memcached, in its own process: one proxy, one dictionary."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Cache:
    """The part of swift.common.memcached that middleware calls."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, until = self._entries.get(key, (None, 0.0))
        return None if until and until < time.time() else value

    def set(self, key: str, value: Any, serialize: bool = True, time: int = 0, **_more: Any) -> None:
        self._entries[key] = (value, _now() + time if time else 0.0)

    def incr(self, key: str, delta: int = 1, time: int = 0) -> int:
        value = int(self.get(key) or 0) + delta
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: int = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._entries.pop(key, None)


def _now() -> float:
    return time.time()


def filter_factory(_global_conf: dict[str, str], **_local: str) -> Callable[[Any], Any]:
    """Put the cache where Swift's middleware looks for it."""
    cache = Cache()

    def middleware(app: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return call

    return middleware
