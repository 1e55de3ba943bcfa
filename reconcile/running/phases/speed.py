"""Speed limits of a run: documents and bytes a second, by time of day, and from a file that may change."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from reconcile.control import RateLimit
from reconcile.errors import UsageError
from reconcile.logs import get_logger, printable
from reconcile.running.record.parts import Part
from reconcile.timetable import OFF, Timetable, timetable

LOOK_SECONDS = 5.0  # between two looks at the file
_KEYS = ("max_rate", "max_bandwidth", "workers")

log = get_logger()


class SpeedLimits:
    """The limits in force: the options of the command, and those of a file, which win and may change.

    ``use_workers`` is called with the number of requests at once that the file says. Raises `UsageError` for a file
    that cannot be read at the beginning; later, an invalid file gives a warning, and the limits stay.
    """

    def __init__(
        self,
        max_rate: float | None = None,
        max_bandwidth: Timetable | None = None,
        file: Path | None = None,
        use_workers: Callable[[int], None] = lambda _workers: None,
    ) -> None:
        self._rate, self._bandwidth = max_rate, max_bandwidth
        self._file, self._use_workers = file, use_workers
        self._said: dict[str, Any] = {}
        self._changed_at: int | None = None
        self._warned = ""
        self._looked_at = time.monotonic()
        if file is not None:
            self._read(file)

    def rate(self) -> float | None:
        """Return how many documents a second may begin."""
        self._look()
        found: float | None = self._said.get("max_rate", self._rate)
        return found

    def bandwidth(self) -> float | None:
        """Return how many bytes a second may be moved."""
        self._look()
        table: Timetable | None = self._said.get("max_bandwidth", self._bandwidth)
        now = datetime.now().astimezone()
        return None if table is None else table.at(now.hour * 60 + now.minute)

    def _look(self) -> None:
        """Read the file again if it was changed."""
        if self._file is None or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            if self._file.stat().st_mtime_ns != self._changed_at:
                self._read(self._file)
                log.info("limits changed", file=str(self._file), **self._in_words())
        except (OSError, UsageError) as error:
            reason = error.message.partition("; nothing")[0] if isinstance(error, UsageError) else str(error.strerror)
            if reason != self._warned:  # once, until it is another
                log.warning(
                    "the limits file could not be read; the limits stay as they were",
                    file=str(self._file),
                    reason=reason,
                )
            self._warned = reason

    def _read(self, file: Path) -> None:
        said, changed_at = read_limits(file)
        self._said, self._changed_at, self._warned = said, changed_at, ""
        if "workers" in said:
            self._use_workers(said["workers"])

    def _in_words(self) -> dict[str, Any]:
        return {key: str(value.entries) if isinstance(value, Timetable) else value for key, value in self._said.items()}


def read_limits(file: Path) -> tuple[dict[str, Any], int]:
    """Return what a file of limits says, and when it was changed. Raises `UsageError`."""
    try:
        changed_at, text = file.stat().st_mtime_ns, file.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:  # a date of a 13th month is a ValueError
        reason = getattr(error, "strerror", None) or "it is not YAML"
        raise _disorder(file, reason) from None
    if not isinstance(found, dict) or set(found) - set(_KEYS):
        raise _disorder(file, f"it must have {', '.join(_KEYS)}, and nothing else")
    try:
        return {key: _value(key, value) for key, value in found.items()}, changed_at
    except ValueError as error:
        raise _disorder(file, printable(str(error))) from None


def _value(key: str, value: object) -> object:
    is_off = value is None or value is False or value == OFF  # YAML takes the word off for false, and 0 is neither
    if key == "max_bandwidth":
        return timetable(OFF if is_off else str(value))
    if key == "max_rate" and is_off:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if not is_number or (key == "workers" and not (isinstance(value, int) and value <= 256)):  # noqa: PLR2004 - as the option
        raise ValueError(f"{key}: {value!r} is not a valid number")
    return value


def _disorder(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"--limits-file {file}: {reason}; nothing was done",
        hint="write for example max_rate: 200, max_bandwidth: 50MiB, workers: 16",
    )


class Throttle:
    """Delays batches of documents to keep documents and bytes a second within the limits."""

    def __init__(self, limits: SpeedLimits | None = None) -> None:
        limits = limits or SpeedLimits()
        self._documents, self._bytes = RateLimit(limits.rate), RateLimit(limits.bandwidth)

    def batch(self, most: int) -> int:
        """Return how many documents a batch may have, so that it takes a second at most."""
        return self._documents.batch(most)

    def batch_bytes(self, most: int) -> int:
        """Return how many bytes a batch may have, likewise."""
        return self._bytes.batch(most)

    def hold(self, part: Part, check: Callable[[], None]) -> None:
        """Wait until a part may begin; see `RateLimit.wait`."""
        self._documents.wait(part.documents, check)
        self._bytes.wait(part.size, check)

    def settle(self, more: int) -> None:
        """Count bytes that a batch had beyond those waited for: its copies are larger than what was read."""
        self._bytes.spend(more)
