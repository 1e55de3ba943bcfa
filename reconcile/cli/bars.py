"""How a run goes, on stderr: bars on a terminal of any width, a log line every half minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from reconcile.logs import get_logger, printable
from reconcile.pace import Pace, duration_text
from reconcile.wording import count, human_bytes

LOG_SECONDS = 30.0
_LONG_SECONDS = 1.0

log = get_logger()


def _text(template: str, *, right: bool = False) -> TextColumn:
    column = Column(no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    return TextColumn(template, markup=False, table_column=column)


class _Count(ProgressColumn):
    """How many of how many."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{int(task.completed):,}/{int(task.total):,}")


_NAME, _OF = _text("{task.description}", right=True), _text("documents")
_RATE, _LEFT = _text("{task.fields[rate]}"), _text("left")
_COUNT, _PERCENT, _TIME = _Count(), TaskProgressColumn(), TimeRemainingColumn()
_LAYOUTS: tuple[tuple[int, tuple[ProgressColumn, ...]], ...] = (  # what there is room for, by the terminal's columns
    (100, (_NAME, BarColumn(20), _COUNT, _OF, _RATE, _TIME, _LEFT)),
    (70, (_NAME, BarColumn(15), _COUNT, _OF, _TIME, _LEFT)),
    (40, (_NAME, _COUNT, _PERCENT)),
    (0, (_NAME, _PERCENT)),
)


class _Fitting(Progress):
    """Bars that show what the terminal has room for, at each refresh: it may be resized."""

    def __init__(self, console: Console, *, disable: bool) -> None:
        self._screen = console
        super().__init__(console=console, disable=disable)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        self.columns = next(columns for width, columns in _LAYOUTS if self._screen.width >= width)
        return super().make_tasks_table(tasks)


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
        self._progress = _Fitting(self._console, disable=not self._shown)
        self._task: TaskID | None = None
        self._name, self._documents, self._bytes = "", (0, 0), (0, 0)
        self._begun, self._is_counted = 0.0, False
        self._pace = Pace()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        if self._shown:
            self._progress.start()
            self._console.show_cursor(True)  # it would stay hidden after kill -9
        elif not self._quiet:
            threading.Thread(target=self._log_now_and_then, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._end_bar()
        self._progress.stop()

    def phase(self, name: str, documents: int, size: int) -> None:
        """Begin a bar; the one before becomes a line above it."""
        log.info("phase", phase=name, documents=documents, bytes=size)
        self._begin_bar(name, documents, size)

    def step(self, name: str) -> None:
        """Begin a bar that shows no more than that something goes on."""
        log.debug("step", step=name)
        self._begin_bar(name, None, 0)

    def _begin_bar(self, name: str, documents: int | None, size: int) -> None:
        self._end_bar()
        self._begun, self._is_counted, self._pace = self._clock(), documents is not None, Pace()
        self._name, self._documents, self._bytes = name, (0, documents or 0), (0, size)
        self._task = self._progress.add_task(name, total=documents, rate="")

    def _end_bar(self) -> None:
        """Leave a line of what was done, so that everything stands in the order in which it happened."""
        if self._task is None:
            return
        self._progress.refresh()
        self._progress.remove_task(self._task)
        self._task = None
        took = self._clock() - self._begun
        if self._is_counted:
            done = f"{count(self._documents[0])}, {human_bytes(self._bytes[0])}"
            self._print(f"{self._name}: {done}, {duration_text(took)}")
        elif took >= _LONG_SECONDS and self._documents[0]:
            self._print(f"{self._name}: {count(self._documents[0], 'row')}, {duration_text(took)}")
        elif took >= _LONG_SECONDS:
            self._print(f"{self._name}: {duration_text(took)}")

    def advance(self, documents: int, size: int) -> None:
        """Move the bar."""
        if self._task is None:
            return
        self._documents = (self._documents[0] + documents, self._documents[1])
        self._bytes = (self._bytes[0] + size, self._bytes[1])
        self._pace.add(self._clock(), self._documents[0], self._bytes[0])
        rate = self._pace.rate()
        text = human_bytes(self._bytes[0]) + (f", {rate.documents_per_second:.0f} documents/s" if rate else "")
        self._progress.update(self._task, advance=documents, rate=text)

    def say(self, text: str, *, strong: bool = False) -> None:
        """Print a line above the bar, or log it; what is ``strong`` stands in bold type, below what was done before."""
        if strong:
            self._end_bar()
        if self._shown:
            self._print(text, "bold" if strong else None)
        else:
            log.info(text)

    def _print(self, text: str, style: str | None = None) -> None:
        if self._shown:
            self._progress.console.print(printable(text), markup=False, highlight=False, style=style)

    def log_progress(self) -> None:
        """Log how far the phase is, unless it is through."""
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
        )

    def _log_now_and_then(self) -> None:
        while not self._ended.wait(self._interval):
            self.log_progress()
