"""What people see while a run goes: progress on a terminal, questions, signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from reconcile.control import Control
from reconcile.errors import UsageError
from reconcile.logs import get_logger, printable

log = get_logger()


class Bars:
    """Progress bars on stderr: documents, bytes, rate, time left. Without a terminal, or quiet, none."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("documents"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not self._shown,
        )
        self._task: TaskID | None = None
        self._size = 0

    def __enter__(self) -> Self:
        if self._shown:
            self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def phase(self, name: str, documents: int, size: int) -> None:
        """Begin a bar."""
        log.info("phase", phase=name, documents=documents, bytes=size)
        self._size = 0
        self._task = self._progress.add_task(name, total=documents, speed="")

    def advance(self, documents: int, size: int) -> None:
        """Move the bar."""
        if self._task is None:
            return
        self._size += size
        task = self._progress.tasks[self._task]
        rate = f"{self._size / 1024**2:.1f} MiB" + (f", {task.speed:.0f} documents/s" if task.speed else "")
        self._progress.update(self._task, advance=documents, speed=rate)

    def say(self, text: str) -> None:
        """Print a line above the bars, or log it."""
        if self._shown:
            self._progress.console.print(printable(text), markup=False, highlight=False)
        else:
            log.info(text)


@contextmanager
def controlled(*, quiet: bool) -> Iterator[Control]:
    """Give a run its progress, and let SIGINT and SIGTERM end it after the batches in hand."""
    with Bars(quiet=quiet) as bars:
        control = Control(progress=bars)

        def stop(number: int, _frame: FrameType | None) -> None:
            if control.signal is not None:
                raise KeyboardInterrupt
            control.signal = number
            bars.say("stopping after the batches in hand; a second signal stops at once")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield control
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless told not to. Raises `UsageError` where nobody can be asked, aborts on anything but y."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: standard input is no terminal", hint="give --yes to go ahead")
    if not click.confirm(question, default=False, err=True):
        raise UsageError("not confirmed: nothing was changed")


def confirm_by_name(question: str, name: str) -> None:
    """Ask for a name to be typed. Raises `UsageError` where nobody can be asked, and on anything else."""
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: standard input is no terminal", hint="give --yes to go ahead")
    if click.prompt(f"{question} Type {name} to confirm", default="", show_default=False, err=True) != name:
        raise UsageError("not confirmed: nothing was changed")
