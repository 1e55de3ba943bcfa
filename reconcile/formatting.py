"""How counts, sizes and times are written, the same everywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from reconcile._version import __version__

_LARGEST = (1 << 63) - 1  # that a database counts to
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def count(number: int, one: str = "document", several: str | None = None) -> str:
    """Return a number of things: ``1 document``, ``12,340 documents``; ``several`` where an s does not do it."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def to_install(extra: str) -> str:
    """Return the command that installs an extra from the release's file; the index has another project of that name."""
    return f"pip install './anchore_reconcile-{__version__}-py3-none-any.whl[{extra}]'"


def time_text(seconds: int) -> str:
    """Return a time, which is in Unix seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def human_bytes(size: float) -> str:
    """Return a size for people: ``1.5 MiB``."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError  # pragma: no cover


def size_of(text: str) -> int:
    """Return the bytes that a size means: ``1048576``, ``512K``, ``200MiB``, ``1G``. Raises `ValueError`."""
    found = re.fullmatch(r"(\d+) ?(?:([KMG])(?:i?B)?)?", text, re.IGNORECASE)
    if not found:
        raise ValueError(f"{text!r} is not a size, such as 1048576, 512K, 200MiB or 1G")
    size = int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[(found[2] or "").upper()]
    if size > _LARGEST:
        raise ValueError(f"{text!r} is too large for a size in bytes")
    return size


def human_seconds(seconds: float) -> str:
    """Return a duration for people: ``3 h 5 min``, ``2 min 10 s``, ``7 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def noted(text: str) -> str:
    """Return a sentence for the operator as a note, unless it is a warning already."""
    return text if text.startswith("WARNING") else f"note: {text}"
