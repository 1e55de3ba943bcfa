"""Throughput and remaining time, measured over the last moments."""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen

_WINDOW_SECONDS = 60.0


@frozen
class Rate:
    """Documents and bytes a second."""

    documents_per_second: float
    bytes_per_second: float

    def seconds_for(self, documents: int) -> float | None:
        """Return how long so many documents take; None where nothing moves."""
        return documents / self.documents_per_second if self.documents_per_second > 0 else None


@define
class Pace:
    """Records what is done at which time, in seconds of any clock, and returns the rate."""

    _seen: deque[tuple[float, int, int]] = field(factory=deque)

    def add(self, at: float, documents: int, size: int) -> None:
        """Record that so many documents and bytes are done in all."""
        self._seen.append((at, documents, size))
        while len(self._seen) > 2 and self._seen[1][0] <= at - _WINDOW_SECONDS:  # noqa: PLR2004 - the first of two is kept
            self._seen.popleft()

    def clear(self) -> None:
        """Begin anew: what is counted is another thing."""
        self._seen.clear()

    def rate(self) -> Rate | None:
        """Return the rate; None until there are enough records."""
        if len(self._seen) < 2:  # noqa: PLR2004
            return None
        (first, documents, size), (last, more, larger) = self._seen[0], self._seen[-1]
        seconds = last - first
        return Rate((more - documents) / seconds, (larger - size) / seconds) if seconds > 0 else None


def duration_text(seconds: float) -> str:
    """Return a duration for people: ``45 s``, ``12 min``, ``3 h 05 min``."""
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004 - two minutes
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004
