"""What happens between a run and the person at it: signals, questions."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from reconcile.cli.bars import Bars
from reconcile.control import Control
from reconcile.errors import UsageError


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
