"""What happens between a run and the person at it: signals, questions."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

import click

from reconcile.catalog.connect import cancel_statements
from reconcile.cli.lines import show
from reconcile.cli.progress import Bars
from reconcile.control import Control
from reconcile.errors import CatalogError, DeclinedError, Interrupted, UsageError

_AT_ONCE = "interrupted: the current batches were abandoned; everything on record stays valid"


@contextmanager
def controlled(*, quiet: bool, only_reads: bool = False) -> Iterator[Control]:
    """Give a run its progress, and let SIGINT and SIGTERM end it after the current batches.

    ``only_reads``: nothing of it is on record, so the next command starts again.
    """
    with Bars(quiet=quiet) as bars:
        control = Control(progress=bars)
        if only_reads:
            control.interrupted, control.then = (
                "interrupted: nothing was changed",
                "the same command starts again from the beginning",
            )

        def stop(number: int, _frame: FrameType | None) -> None:
            if control.signal is not None:
                raise KeyboardInterrupt
            control.signal = number

        def say() -> None:
            bars.say("stopping after the current batches; a second signal stops at once")

        came: list[int] = []
        try:
            with _handled(stop, came, at_once=2, say=say):
                yield control
        except (KeyboardInterrupt, CatalogError) as error:
            if isinstance(error, CatalogError) and not came[1:]:
                raise
            raise Interrupted(control.signal or signal.SIGINT, _AT_ONCE, hint=control.then) from None


@contextmanager
def ended_at_once(said: str, hint: str) -> Iterator[None]:
    """Let SIGINT and SIGTERM end a read-only command at once, as `Interrupted` with the command's own text."""
    signals: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt  # which nothing on the way takes for a failure to be told of later

    try:
        with _handled(stop, [], at_once=1):
            yield
    except KeyboardInterrupt:
        if not signals:
            raise
        raise Interrupted(signals[0], said, hint=hint) from None


@contextmanager
def _handled(
    stop: Callable[[int, FrameType | None], None],
    came: list[int],
    *,
    at_once: int,
    say: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Have ``stop`` called at SIGINT and SIGTERM, at the ``at_once``-th even while the database works.

    ``stop`` must not print or log: it may come in the midst of a line, whose lock this very thread holds. ``say`` may:
    it is called once, at the first signal, by another thread.

    Python calls a handler only when the C function that it is in returns, for a statement in the database when that
    is over, and once for all signals until then. So a thread that each signal wakes writes down those that ``came``,
    and cancels the statement.
    """
    ours, woken = socket.socketpair()
    woken.setblocking(False)

    def cancel() -> None:
        while number := ours.recv(1):
            is_first = not came
            came.extend(set(number) & set(numbers))
            if came and is_first:
                say()
            if len(came) >= at_once:
                cancel_statements()

    numbers = (signal.SIGINT, signal.SIGTERM)
    thread = Thread(target=cancel, daemon=True)
    thread.start()
    before = {number: signal.signal(number, stop) for number in numbers}
    woken_before = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        woken.close()
        thread.join()
        ours.close()


def confirm(said: Iterable[str], *, yes: bool) -> None:
    """Show what will be done and have ``yes`` typed, unless asking is switched off.

    Raises `UsageError` where stdin is not a terminal, `DeclinedError` on any other answer.
    """
    if yes:
        return
    show(said, err=True)
    if not sys.stdin.isatty():
        raise UsageError("cannot prompt: standard input is not a terminal", hint="give --yes to confirm")
    if _typed("Type yes to confirm").lower() != "yes":
        raise DeclinedError("declined: nothing was changed")


def confirm_by_name(question: str, name: str, instead: str = "--yes") -> None:
    """Have a name typed. Raises `UsageError` where stdin is not a terminal, `DeclinedError` on any other answer."""
    if not sys.stdin.isatty():
        raise UsageError("cannot prompt: standard input is not a terminal", hint=f"give {instead} to confirm")
    if _typed(f"{question} Type {name} to confirm") != name:
        raise DeclinedError("declined: nothing was changed")


def _typed(prompt: str) -> str:
    """Return what was typed. Raises `Interrupted` for Ctrl-C, and for the end of input."""
    try:
        return str(click.prompt(prompt, default="", show_default=False, err=True)).strip()
    except click.Abort:
        raise Interrupted(signal.SIGINT, "interrupted at the prompt: nothing was changed") from None
