"""Show something repeatedly: in place on a terminal, line by line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from reconcile.running.record.status import Status
from reconcile.throughput import Pace, Rate

Show = Callable[[Status, Rate | None], None]
_IDLE_LOOKS = 2  # a process that goes on with a run may be about to take the lock
_REST = 10  # a look that took long is followed by a rest that many times as long


def follow(look: Callable[[], Status], show: Show, interval: float) -> Status:
    """Show a run every so many seconds until it ends or no process is working on it; return its last status."""
    pace, phase, idle = Pace(), "", 0
    while True:
        begun = time.monotonic()
        status = look()
        if status.record.state != phase:  # what is counted is another thing from here on
            pace, phase = Pace(), status.record.state
        pace.add(begun, status.done.documents, status.done.bytes)
        show(status, pace.rate())
        idle = idle + 1 if status.is_at_rest else 0
        if status.is_finished or idle == _IDLE_LOOKS:
            return status
        time.sleep(max(interval, _REST * (time.monotonic() - begun)))


def _line(text: str) -> Text:
    """Return a line cut at the terminal's edge, but for commands: they are to be copied whole."""
    is_command = text.startswith("next: ") or "reconcile " in text
    return Text(text, overflow="fold") if is_command else Text(text, no_wrap=True, overflow="ellipsis")


def is_screen() -> bool:
    """Tell whether results go to a terminal that can be written to in place."""
    return sys.stdout.isatty() and not Console(force_terminal=True).is_dumb_terminal


@contextmanager
def in_place(lines: Callable[[Status, Rate | None], Iterator[str]]) -> Iterator[Show]:
    """Give a function that shows these lines on the terminal's second screen, at any size."""
    with Live(console=Console(force_terminal=True), screen=True, auto_refresh=False) as live:

        def show(status: Status, rate: Rate | None) -> None:
            live.update(Group(*(_line(text) for text in lines(status, rate))), refresh=True)

        yield show
