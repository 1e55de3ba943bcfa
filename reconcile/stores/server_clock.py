"""The time at a server, as far as its answers show it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime


class ServerClock:
    """A time that the server's clock has reached: what it said last, and what has passed here since.

    Counted by a clock that runs while this process is stopped, or its machine asleep; one that does not only makes
    requests expire earlier.
    """

    def __init__(self) -> None:
        self._said: tuple[float, float] | None = None

    def hear(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        with suppress(TypeError, ValueError):
            date = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else None
            if date is not None:
                self._said = (date, _elapsed())

    def now(self) -> float | None:
        """Return the time in Unix seconds; None where the server does not report it."""
        return None if self._said is None else self._said[0] + _elapsed() - self._said[1]


def _elapsed() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
