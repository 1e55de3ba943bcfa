"""Bytes a second by the time of day (`--max-bandwidth`)."""

from __future__ import annotations

import re

from attrs import frozen

from reconcile.formatting import size_of

OFF = "off"
_ENTRY = re.compile(r"(\d\d):(\d\d)=(\S+)")
_EXAMPLES = "50MiB, off or '08:00=20MiB 19:00=off'"


@frozen
class Timetable:
    """Bytes a second by the minute of the day, of this machine's clock; None: as many as come.

    An entry holds from its time on until the next one's, the last one over midnight.
    """

    entries: tuple[tuple[int, int | None], ...]

    def at(self, minute: int) -> int | None:
        """Return the limit at a minute of the day."""
        begun = [rate for begin, rate in self.entries if begin <= minute]
        return begun[-1] if begun else self.entries[-1][1]


def timetable(text: str) -> Timetable:
    """Read ``50MiB``, ``off``, or ``08:00=20MiB 19:00=off``. Raises `ValueError` with an example."""
    words = text.split()
    if len(words) == 1 and "=" not in text:
        return Timetable(((0, _bytes(words[0], text)),))
    found = [_ENTRY.fullmatch(word) for word in words]
    entries = [(int(e[1]) * 60 + int(e[2]), _bytes(e[3], text), e[0]) for e in found if e is not None]
    if not words or len(entries) < len(words) or any(not re.match(r"([01]\d|2[0-3]):[0-5]\d", e[2]) for e in entries):
        raise ValueError(f"{text!r} is not a size a second or a timetable, such as {_EXAMPLES}")
    if len({begin for begin, _rate, _text in entries}) < len(entries):
        raise ValueError(f"{text!r} has two values for one time of day")
    return Timetable(tuple(sorted((begin, rate) for begin, rate, _text in entries)))


def _bytes(word: str, text: str) -> int | None:
    if word.lower() == OFF:
        return None
    try:
        size = size_of(word)
    except ValueError:
        size = 0
    if size == 0:
        raise ValueError(f"{text!r}: {word!r} is not a size a second, such as {_EXAMPLES}")
    return size
