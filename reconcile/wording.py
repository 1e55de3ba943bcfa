"""How numbers of things and times are said, the same wherever people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def count(number: int, one: str = "document", several: str | None = None) -> str:
    """Return a number of things: ``1 document``, ``12,340 documents``; ``several`` where an s does not do it."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def time_text(seconds: int) -> str:
    """Return a time, which is in Unix seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
