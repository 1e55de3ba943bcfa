"""What controls a run from outside: when to stop, whom to notify, and how many batches to work on at once."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

from attrs import define, field

from reconcile.errors import Interrupted
from reconcile.limits import Threads

T = TypeVar("T")
R = TypeVar("R")

_PAUSE_SECONDS = 0.2
PIPELINES = 4  # batches in hand at once: enough for each to wait for something else


class RateLimit:
    """Limits how many documents or bytes begin a second. ``rate`` says how many; None: no limit."""

    def __init__(
        self,
        rate: float | Callable[[], float | None] | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate if callable(rate) else lambda: rate
        self._clock, self._sleep = clock, sleep
        self._next = clock()

    def batch(self, most: int) -> int:
        """Return how many a batch may have, so that it takes a second at most."""
        rate = self._rate()
        return most if rate is None else max(1, min(most, int(rate)))

    def hold(self, batch: Sized, check: Callable[[], None]) -> None:
        """Wait until a batch of documents may begin; see `wait`."""
        self.wait(len(batch), check)

    def wait(self, amount: int, check: Callable[[], None]) -> None:
        """Wait until so many may begin. ``check`` is called meanwhile, and ends the waiting by raising."""
        rate = self._rate()
        if rate is None:
            return
        begin = max(self._next, self._clock())
        self._next = begin + amount / rate
        while (rest := begin - self._clock()) > 0:
            check()
            self._sleep(min(rest, _PAUSE_SECONDS))
            if self._rate() != rate:  # what was reckoned by it is no debt any more
                self._next = self._clock()
                return

    def spend(self, amount: int) -> None:
        """Count what began without waiting: the next wait is longer."""
        rate = self._rate()
        if rate is not None:
            self._next = max(self._next, self._clock()) + amount / rate


class Progress(Protocol):
    """Receives the progress of a run, to show it on a terminal for instance."""

    def phase(self, name: str, documents: int, size: int, before: tuple[int, int] = (0, 0)) -> None:
        """Report that a phase begins, with so many documents and bytes to do, some of them done ``before``."""

    def advance(self, documents: int, size: int) -> None:
        """Report that so many more documents and bytes are done."""

    def step(self, name: str) -> None:
        """Report that a step without a count begins."""

    def say(self, text: str, *, strong: bool = False) -> None:
        """Report a sentence to people; ``strong``: an important one."""


class Silent:
    """Progress for callers that want none."""

    def phase(self, name: str, documents: int, size: int, before: tuple[int, int] = (0, 0)) -> None:
        """Say nothing."""

    def advance(self, documents: int, size: int) -> None:
        """Say nothing."""

    def step(self, name: str) -> None:
        """Say nothing."""

    def say(self, text: str, *, strong: bool = False) -> None:
        """Say nothing."""


@define
class Control:
    """The outside world of one run. ``signal`` is set by a signal handler and ends the run after its batches.

    ``watch`` is called between batches, and ends the run by raising. ``interrupted`` and ``then`` are the message of
    an interrupt, and its hint.
    """

    progress: Progress = field(factory=Silent)
    signal: int | None = None
    watch: Callable[[], None] = lambda: None
    interrupted: str = "interrupted: the current batches were finished; everything on record is complete"
    then: str = "the same command resumes"

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come, or what ``watch`` raises."""
        self.watch()
        if self.signal is not None:
            raise Interrupted(self.signal, self.interrupted, hint=self.then)


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Let Python's garbage collector run rarely, and ignore older objects: batches hold no cycles.

    Scanning them repeatedly takes a sixth of the CPU of a run.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def in_parallel(
    control: Control,
    pipelines: int,
    batches: Iterable[T],
    work: Callable[[T], R],
    done: Callable[[R], None],
    hold: Callable[[T, Callable[[], None]], None] = lambda _batch, _attend: None,
) -> None:
    """Call ``work`` for every batch on so many threads, and ``done`` for every result on this one.

    ``hold`` may delay a batch; it calls its argument while it waits, which raises to end the wait.

    The first error, of a batch or of ``control``, ends the run of batches: those in progress are finished and
    reported, no more are begun, and the error is raised.
    """
    pending: set[Future[R]] = set()

    def attend() -> None:
        nonlocal pending
        control.check()
        pending = _report(pending, done, seconds=0)

    with Threads(pipelines, thread_name_prefix="reconcile") as pool:
        try:
            for batch in batches:
                attend()
                hold(batch, attend)
                while len(pending) >= 2 * pipelines:
                    pending = _report(pending, done)
                pending.add(pool.submit(work, batch))
            while pending:
                control.check()
                pending = _report(pending, done)
        except BaseException:
            for future in pending:
                future.cancel()
            wait(pending)
            for future in pending:
                if not future.cancelled() and future.exception() is None:
                    done(future.result())
            raise


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of so many items."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def in_order(workers: int, batches: Iterable[T], work: Callable[[T], R]) -> Iterator[R]:
    """Call ``work`` for every batch on so many threads; yield the results in the order of the batches."""
    pending: deque[Future[R]] = deque()
    pool = Threads(workers, thread_name_prefix="reconcile")
    patient = True
    try:
        for batch in batches:
            pending.append(pool.submit(work, batch))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except (KeyboardInterrupt, Interrupted):
        patient = False  # what only reads need not be waited for
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


def _report(pending: set[Future[R]], done: Callable[[R], None], seconds: float = 0.5) -> set[Future[R]]:
    """Wait for some batches and report them; the first error among them is raised after the others."""
    finished, unfinished = wait(pending, timeout=seconds, return_when=FIRST_COMPLETED)
    error: BaseException | None = None
    for future in finished:
        pending.discard(future)  # reported once, whatever comes of it
        if future.exception() is None:
            done(future.result())
        else:
            error = error or future.exception()
    if error is not None:
        raise error
    return unfinished
