"""How a run goes, on stderr: bars on a terminal of any width, a log line every half minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from rich.console import Console

from reconcile.formatting import count, human_bytes
from reconcile.logs import get_logger, is_fed, printable
from reconcile.throughput import Pace, duration_text

if TYPE_CHECKING:
    from reconcile.cli.bar import Bar

LOG_SECONDS = 30.0
_EVENT_SECONDS = 10.0  # where programs follow the events
_LONG_SECONDS = 1.0
_SILENT_SECONDS = 10.0  # after which it is said beside the bar
_SILENCES = (30.0, 120.0, 600.0)  # after which it is said in a line

log = get_logger()


class Bars:
    """Progress of a run. ``clock`` is in seconds, ``interval`` the seconds between two log lines."""

    def __init__(
        self,
        *,
        quiet: bool,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = LOG_SECONDS,
    ) -> None:
        self._console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self._quiet = quiet
        self._clock, self._interval = clock, interval
        self._shown = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._bar: Bar | None = None
        if self._shown:
            from reconcile.cli.bar import Bar  # noqa: PLC0415 - takes long to load, and most commands of a day have none

            self._bar = Bar(self._console, self.left)
        self._in_phase = False
        self._name, self._documents, self._bytes = "", (0, 0), (0, 0)
        self._begun, self._moved, self._told, self._is_counted = 0.0, 0.0, 0, False
        self._before = (0, 0)
        self._pace = Pace()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._console.show_cursor(True)  # it would stay hidden after kill -9
            self._every(_SILENCES[0] / 30, self.tell_silence)
        if is_fed():
            self._every(_EVENT_SECONDS, self.log_progress)
        elif not self._shown and not self._quiet:
            self._every(self._interval, self.log_progress)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        try:
            self._end_bar()
        finally:
            if self._bar:
                self._bar.stop()

    def phase(self, name: str, documents: int, size: int, before: tuple[int, int] = (0, 0)) -> None:
        """Begin a bar; the one before becomes a line above it."""
        log.info("phase", phase=name, documents=documents, bytes=size)
        self._begin_bar(name, documents, size, before)

    def step(self, name: str) -> None:
        """Begin a bar without counts."""
        log.debug("step", step=name)
        self._begin_bar(name, None, 0)

    def _begin_bar(self, name: str, documents: int | None, size: int, before: tuple[int, int] = (0, 0)) -> None:
        self._end_bar()
        self._begun, self._is_counted, self._pace = self._clock(), documents is not None, Pace()
        self._moved, self._told = self._begun, 0
        self._name, self._before = name, before
        self._documents, self._bytes = (before[0], documents or 0), (before[1], size)
        if self._bar:
            self._bar.begin(name, documents, before[0])
        self._in_phase = True

    def _end_bar(self) -> None:
        """Leave a line of what was done, so that everything stands in the order in which it happened."""
        if not self._in_phase:
            return
        self._in_phase = False
        if self._bar:
            self._bar.end()
        took = self._clock() - self._begun
        if self._is_counted and self._documents[1]:
            documents, size = self._documents[0] - self._before[0], self._bytes[0] - self._before[1]
            earlier = f", beside {self._before[0]:,} before" if self._before[0] else ""
            self._print(f"{self._name}: {count(documents)}, {human_bytes(size)}, {duration_text(took)}{earlier}")
        elif took >= _LONG_SECONDS and self._documents[0] and not self._is_counted:
            self._print(f"{self._name}: {count(self._documents[0], 'row')}, {duration_text(took)}")
        elif took >= _LONG_SECONDS:
            self._print(f"{self._name}: {duration_text(took)}")

    def advance(self, documents: int, size: int) -> None:
        """Move the bar."""
        if not self._in_phase:
            return
        self._documents = (self._documents[0] + documents, self._documents[1])
        self._bytes = (self._bytes[0] + size, self._bytes[1])
        self._moved, self._told = self._clock(), 0
        self._pace.add(self._moved, self._documents[0], self._bytes[0])
        rate = self._pace.rate()
        if self._bar:
            text = human_bytes(self._bytes[0]) + (f", {rate.documents_per_second:.0f} documents/s" if rate else "")
            self._bar.move(documents, text)

    def left(self) -> str:
        """Return how long the phase will still take; if nothing was done for a while, for how long that has been."""
        silent, rate = self._clock() - self._moved, self._pace.rate()
        if not self._is_counted or self._documents[0] >= self._documents[1]:
            return ""
        if silent >= _SILENT_SECONDS:
            return f"no progress for {duration_text(silent)}"
        left = rate.seconds_for(self._documents[1] - self._documents[0]) if rate else None
        return "" if left is None else f"{duration_text(left)} left"

    def tell_silence(self) -> None:
        """Report once that nothing was done for long, and again if that continues."""
        silent = self._clock() - self._moved
        if not self._in_phase or not self._is_counted or self._told == len(_SILENCES):
            return
        if silent >= _SILENCES[self._told] and self._documents[0] < self._documents[1]:
            self._told += 1
            self.say(
                f"{self._name}: no document was finished for {duration_text(silent)}: a store or the database "
                "is slow or does not answer. Requests are retried until their time-out. Ctrl-C stops the "
                "command; nothing is lost"
            )

    def say(self, text: str, *, strong: bool = False) -> None:
        """Print a line above the bar, or log it; a ``strong`` line is bold and comes after the finished bar."""
        if strong:
            self._end_bar()
        if self._shown:
            self._print(text, "bold" if strong else None)
        else:
            log.info(text)

    def _print(self, text: str, style: str | None = None) -> None:
        if self._shown:
            self._console.print(printable(text), markup=False, highlight=False, style=style)

    def log_progress(self) -> None:
        """Log how far the phase is, unless it has ended."""
        done, total = self._documents
        if done >= total if self._is_counted else not done:
            return
        rate = self._pace.rate()
        left = rate.seconds_for(total - done) if rate and self._is_counted else None
        log.info(
            "progress",
            phase=self._name,
            documents=done,
            of_documents=total if self._is_counted else None,
            bytes=self._bytes[0],
            of_bytes=self._bytes[1],
            documents_per_second=round(rate.documents_per_second, 1) if rate else None,
            bytes_per_second=round(rate.bytes_per_second) if rate else None,
            seconds_left=None if left is None else round(left),
            seconds_since_last=round(self._clock() - self._moved),
        )

    def _every(self, seconds: float, tell: Callable[[], None]) -> None:
        """Call a function again and again until the end."""

        def go_on() -> None:
            while not self._ended.wait(seconds):
                tell()

        threading.Thread(target=go_on, name="progress", daemon=True).start()
